"""The measures that the `evaluate` modules in `evaluation` wrap: regard, perplexity and group fairness."""
