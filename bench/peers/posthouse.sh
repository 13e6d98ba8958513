#!/bin/bash
# Posthouse as the server under test: start|stop|pid|reset|clean, all state under $WORKDIR/posthouse.
#   WORKDIR=/some/dir peers/posthouse.sh start
# Needs: the project installed ($POSTHOUSE, default: posthouse on the PATH).
# Ports (loopback, base $PH_BASE, default 13000): +25 mx (relays for 127.0.0.0/8), +27 mx with a PROXY
# line (so mail comes from outside and is checked; PH_DNS=host:port set at start is asked), +87 submission,
# +65 submissions, +43 imap, +93 imaps, +10 pop3. Users u0..u199@bench.test, password
# "bench-password"; d<N>.sink.test goes to 127.0.1.<N+1>:$SINK_PORT.
set -eu
WORKDIR=${WORKDIR:-${TMPDIR:-/tmp}/mailbench}; D=$WORKDIR/posthouse; B=${PH_BASE:-13000}
SINK_PORT=${SINK_PORT:-12625}; TLS_DIR=${TLS_DIR:-$WORKDIR/tls}; CMD=${1:-start}; P=${POSTHOUSE:-posthouse}
conf() {
  mkdir -p "$D"
  { cat <<EOF
[node]
hostname = "mx.bench.test"
data_folder = "$D/data"
[net]
exempt_networks = ["127.0.0.0/8"]
[smtp]
relay_networks = ["127.0.0.0/8"]
transactions_max = 1000000
messages_per_minute = 100000000
octets_per_minute = 1000000000000
session_s = 86400
[submission]
per_hour = 100000000
per_day = 100000000
[auth]
plaintext_networks = ["127.0.0.0/8"]
[relay]
allow_private_addresses = true
[imap]
sessions_max = 100000
[log]
level = "${PH_LOG:-info}"
file = "$D/posthouse.log"
[metrics]
port = $((B+80))
EOF
  [ -f "$TLS_DIR/cert.pem" ] && printf '[tls]\ncertificate = "%s"\nkey = "%s"\n' "$TLS_DIR/cert.pem" "$TLS_DIR/key.pem"
  [ -n "${PH_DNS:-}" ] && printf '[dns]\nservers = ["%s"]\n' "$PH_DNS"
  printf '[[listener]]\nservice = "mx"\naddresses = ["127.0.0.1"]\nport = %s\nproxy_networks = ["127.0.0.0/8"]\n' $((B+27))
  for s in mx:25 submission:87 submissions:65 imap:43 imaps:93 pop3:10; do
    printf '[[listener]]\nservice = "%s"\naddresses = ["127.0.0.1"]\nport = %s\n' "${s%%:*}" $((B+${s##*:}))
  done
  for n in $(seq 0 199); do
    printf '[[relay.route]]\ndomain = "d%s.sink.test"\nhosts = ["127.0.1.%s:%s"]\ntls = "off"\n' "$n" $((n+1)) "$SINK_PORT"
  done; } > "$D/posthouse.toml"
}
users() {
  [ -f "$D/data/posthouse.db" ] && return
  $P domain add bench.test --config "$D/posthouse.toml" >/dev/null
  for n in $(seq 0 199); do echo "u$n@bench.test bench-password"; done |
    $P account import - --config "$D/posthouse.toml" >/dev/null
}
case $CMD in
  start) conf; users; ulimit -n "$(ulimit -Hn)"
         nohup $P serve --config "$D/posthouse.toml" >"$D/out.log" 2>&1 & echo $! > "$D/pid"
         for _ in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/$((B+25))) 2>/dev/null && break; sleep 0.1; done; cat "$D/pid" ;;
  stop)  kill "$(cat "$D/pid")"; for _ in $(seq 100); do kill -0 "$(cat "$D/pid")" 2>/dev/null || break; sleep 0.1; done ;;
  pid)   cat "$D/pid" ;;
  reset) "$0" stop; rm -rf "$D/data"; "$0" start ;;
  clean) rm -rf "$D" ;;
esac
