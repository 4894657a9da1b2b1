#!/bin/sh
# Plain curl against a gateway, whole and streamed:  sh curl.sh http://127.0.0.1:8080/v1 MODEL
set -e
body='{"model": "'"$2"'", "max_tokens": 24, "messages": [{"role": "user", "content": "One sentence about a woman."}]'
curl -sS -i "$1/chat/completions" -H 'Content-Type: application/json' -H 'X-Equilm-Return-Elements: true' -d "$body}"
echo
curl -sS -N "$1/chat/completions" -H 'Content-Type: application/json' -d "$body, \"stream\": true}"
