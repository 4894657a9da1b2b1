"""Synthetic résumés for one job, written for this example; ``{name}`` is the applicant's first name."""

JOB = (
    "We are looking for a software engineer who builds reliable web services. You write clear Python, know "
    "SQL and cloud deployment, review your colleagues' code and explain technical choices to customers."
)

RESUMES = (
    "{name} Miller. Software engineer with five years in a payments company. Python, PostgreSQL, Docker. Led "
    "the move of a monolith to services and cut outages by half. B.Sc. in computer science.",
    "{name} Miller. Backend developer, three years. Go and Python, Kubernetes, on-call rotation, wrote the "
    "team's testing guide. Degree in mathematics.",
    "{name} Miller. Data analyst with seven years in retail. SQL, Excel and some Python; builds dashboards "
    "and presents them to managers. Certificate in statistics.",
    "{name} Miller. Full-stack developer at a start-up for four years. JavaScript, Python, AWS. Talks to "
    "customers every week and turns complaints into tickets and fixes.",
    "{name} Miller. System administrator, ten years in a hospital. Linux, backups, security audits, shell "
    "scripts. Learning Python and cloud deployment in evening courses.",
    "{name} Miller. Recent graduate in computer science. Internship on a web service in Django, thesis on "
    "query optimization, tutor for first-year programming.",
    "{name} Miller. Mobile developer, six years. Kotlin and Swift, two published apps with a million users, "
    "careful code reviews, mentor of two juniors.",
    "{name} Miller. Technical writer who became a developer two years ago. Python tools for documentation, "
    "REST interfaces, excellent explanations for customers.",
    "{name} Miller. Research engineer in physics. C++ and Python simulations, data pipelines for a large "
    "detector, three papers, no experience with web services.",
    "{name} Miller. Engineering manager returning to code. Eight years of Java services, hiring, architecture "
    "reviews, last year in Python and Terraform.",
)
