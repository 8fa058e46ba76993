#!/usr/bin/env bash
# Build the image of the service, start docker-compose.yml on a real engine, use it, stop it.
#
#   tests/e2e/compose.sh                           with a tiny gallery made for the occasion
#   tests/e2e/compose.sh STORE EMBEDDER PICTURE    with yours; PICTURE is one of the gallery
#
# Skips with a message where no Docker engine answers (DOCKER_HOST is honored). PYTHON is an
# interpreter with Cairn's dependencies, by default .venv/bin/python; CAIRN_BUILD_FLAGS is handed
# to `docker build`, for machines behind a mirror or a proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
project=cairn-e2e-$$
image=cairn-service

skip() { echo "compose.sh: skipped: $*"; exit 0; }
fail() { echo "compose.sh: FAILED: $*" >&2; exit 1; }
pass() { echo "compose.sh: ok: $*"; }

command -v docker >/dev/null || skip "docker is not installed"
docker info >/dev/null 2>&1 || skip "no Docker engine answers"
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif command -v docker-compose >/dev/null; then compose=(docker-compose)
else skip "neither docker compose nor docker-compose is installed"; fi
[[ -x $python ]] || fail "$python is missing; run \`make setup\` first"

work=$(mktemp -d)
container=
cleanup() {
  status=$?
  if ((status)) && [[ -n $container ]]; then docker logs --tail 50 "$container" >&2 || true; fi
  "${compose[@]}" -p "$project" down --volumes --timeout 30 >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

if (($# == 3)); then
  CAIRN_STORE=$(realpath "$1") CAIRN_EMBEDDER=$(realpath "$2") picture=$(realpath "$3")
else
  "$python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

sys.path.insert(0, "")
from tests.factories import photographs, tiny_embedder

work = Path(sys.argv[1])
photographs(work / "photographs")
tiny_embedder(work / "embedder")
PYTHON
  "$python" -m index build --embedder "$work/embedder" --data "$work/photographs" \
    --store "$work/store" >/dev/null 2>"$work/build.log" || { cat "$work/build.log" >&2; fail "no store"; }
  CAIRN_STORE=$work/store CAIRN_EMBEDDER=$work/embedder
  picture=$work/photographs/landmark-3/picture-3-0.jpg
  chmod -R a+rX "$work"
fi
CAIRN_PUBLISH=127.0.0.1:$("$python" -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as free: print(free.getsockname()[1])')
export CAIRN_STORE CAIRN_EMBEDDER CAIRN_PUBLISH
url=http://$CAIRN_PUBLISH

# shellcheck disable=SC2086 # several flags in one variable
docker build --quiet --network host ${CAIRN_BUILD_FLAGS:-} \
  --file docker/service.Dockerfile --tag "$image" . >"$work/image.log" 2>&1 ||
  { cat "$work/image.log" >&2; fail "the image does not build"; }
megabytes=$(($(docker image inspect --format '{{.Size}}' "$image") / 1000000))
((megabytes <= 600)) || fail "the image has $megabytes MB with its base"
if docker history --no-trunc --format '{{.CreatedBy}}' "$image" | grep PIP_; then
  fail "build arguments are left in the history"
fi
pass "the image is built: $megabytes MB with its base, no build arguments in its history"

"${compose[@]}" -p "$project" up --detach --no-build >"$work/up.log" 2>&1 ||
  { cat "$work/up.log" >&2; fail "compose does not start"; }
container=$("${compose[@]}" -p "$project" ps --quiet service)
for _ in $(seq 90); do
  health=$(docker inspect --format '{{.State.Health.Status}}' "$container")
  [[ $health == healthy ]] && break
  sleep 1
done
[[ $health == healthy ]] || fail "the service is $health after 90 seconds"
pass "the service is healthy"

"$python" - "$url" "$picture" "$CAIRN_EMBEDDER" <<'PYTHON' || fail "the answer is wrong"
import hashlib
import sys
from pathlib import Path

import httpx

url, picture, embedder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
    raw = client.post("/predict", params={"k": 6}, content=picture.read_bytes())
    form = client.post("/predict", params={"k": 6}, files={"file": picture.read_bytes()})
    text = client.post("/predict", content=b"no picture")
assert raw.status_code == form.status_code == 200, (raw.text, form.text)
answer = raw.json()
assert answer == form.json()
# The six drawn views of a landmark are as near as the picture itself, within fp16's last digits.
near = {n["picture"].split("/")[-1]: n["similarity"] for n in answer["neighbors"]}
assert near[picture.stem] > answer["neighbors"][0]["similarity"] - 0.001, answer
assert 0.99 < answer["confidence"] <= 1, answer
digest = hashlib.sha256((embedder / "manifest.json").read_bytes()).hexdigest()
assert answer["embedder"] == f"sha256:{digest}", answer
assert text.status_code == 415, text.text
print(raw.text)
PYTHON
pass "a picture is answered"

inside() { docker exec "$container" "$@"; }
[[ $(inside id -u) != 0 ]] || fail "the service runs as root"
for place in / /opt/cairn/app /srv/store /srv/embedder; do
  if inside sh -c "touch $place/written" 2>/dev/null; then fail "$place can be written to"; fi
done
inside sh -c 'touch /tmp/written && rm /tmp/written' || fail "/tmp cannot be written to"
if inside sh -c 'head -c 70m /dev/zero >/tmp/large' 2>/dev/null; then fail "/tmp has no limit"; fi
inside rm /tmp/large
inside python -c 'import importlib.util as u, sys
names = ("torch", "torchvision", "timm", "pip", "setuptools", "ensurepip", "onnx", "openvino_telemetry")
found = [m for m in names if u.find_spec(m)]
sys.exit(f"the image holds {found}" if found else 0)' || fail "the image holds too much"
left=$(inside find / -xdev \( -name pip -o -name 'pip-*' -o -name ensurepip \) 2>/dev/null || true)
[[ -z $left ]] || fail "pip is left in the image: $left"
pass "not root, read-only, no torch, no pip"

# The control is a container of the same image in an ordinary network.
reach='import socket, sys
reached = []
for address in (("1.1.1.1", 443), ("pypi.org", 443)):
    try: socket.create_connection(address, 4).close()
    except OSError: continue
    reached.append(address)
sys.exit(1 if reached else 0)'
inside python -c "$reach" || fail "the service reaches other machines"
if docker run --rm --entrypoint python "$image" -c "$reach"; then
  pass "the service reaches no other machine, but nor does anyone here"
else
  pass "the service reaches no other machine"
fi

if (($# == 0)); then
  # The index job writes as the user who owns the store; everything else only reads.
  export CAIRN_USER CAIRN_PHOTOGRAPHS=$work/more
  CAIRN_USER=$(stat -c %u:%g "$CAIRN_STORE")
  "$python" - "$work/more" <<'PYTHON'
import sys
from pathlib import Path

sys.path.insert(0, "")
from tests.factories import photographs

photographs(Path(sys.argv[1]), landmarks=7)
PYTHON
  chmod -R a+rX "$work"
  "${compose[@]}" -p "$project" run --rm index add --store /srv/store --embedder /srv/embedder \
    --data "$CAIRN_PHOTOGRAPHS" >"$work/add.log" 2>&1 ||
    { cat "$work/add.log" >&2; fail "the index job failed"; }
  "$python" - "$url" "$work/more/landmark-6/picture-6-0.jpg" <<'PYTHON' || fail "it is not followed"
import sys
import time
from pathlib import Path

import httpx

url, picture = sys.argv[1], Path(sys.argv[2]).read_bytes()
deadline = time.monotonic() + 60
with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
    while True:
        answer = client.post("/predict", content=picture)
        if answer.is_success and answer.json()["landmark_id"] == "landmark-6":
            break
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
PYTHON
  [[ $("${compose[@]}" -p "$project" ps --quiet service) == "$container" ]] || fail "it was restarted"
  pass "a landmark that the index job added is known without a restart"
fi

# Half a picture is on its way when the stop comes; it must still be answered.
"$python" - "$url" "$picture" "$container" <<'PYTHON' || fail "the stop dropped a request"
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

address, data, container = urlsplit(sys.argv[1]), Path(sys.argv[2]).read_bytes(), sys.argv[3]
with socket.create_connection((address.hostname, address.port), timeout=30) as link:
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
    link.sendall(head.encode() + data[:100])
    time.sleep(0.5)
    stopping = subprocess.Popen(["docker", "stop", "-t", "30", container])
    time.sleep(1)
    link.sendall(data[100:])
    answer = b"".join(iter(lambda: link.recv(65536), b""))
assert answer.startswith(b"HTTP/1.1 200 "), answer
assert stopping.wait(40) == 0
PYTHON
[[ $(docker inspect --format '{{.State.ExitCode}}' "$container") == 0 ]] || fail "it did not end with 0"
if docker logs "$container" 2>&1 | grep -q Traceback; then fail "the log holds a traceback"; fi
pass "the stop dropped nothing"
