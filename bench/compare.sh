#!/bin/bash
# Posthouse beside Postfix and Dovecot, in turns, in one run; prints the table of docs/performance.md.
#   WORKDIR=/some/dir ROUNDS=3 bench/compare.sh [accept] [deliver] [relay] [imap] [idle] [tls] [verify] [filters]
# Needs postfix, postfix-pcre and Dovecot installed (bench/README.md), root, and a quiet machine.
# Every cell is measured peer, Posthouse, peer, Posthouse … ROUNDS times; medians and ratios are shown.
set -u
cd "$(dirname "$0")"
export WORKDIR=${WORKDIR:-${TMPDIR:-/tmp}/mailbench} PY=${PY:-python3} ROUNDS=${ROUNDS:-3} SECS=${SECS:-3}
OUT=${OUT:-$WORKDIR/compare.jsonl}; PARTS=${*:-accept deliver relay imap idle tls verify filters}
mkdir -p "$WORKDIR/tls"; : > "$OUT"
[ -f "$WORKDIR/tls/cert.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
  -nodes -keyout "$WORKDIR/tls/key.pem" -out "$WORKDIR/tls/cert.pem" -days 30 -subj /CN=localhost 2>/dev/null
run() { timeout 300 $PY "$@" --out "$OUT" >/dev/null; }
ph() { peers/posthouse.sh pid; }; pf() { peers/postfix.sh pid; }; dc() { peers/dovecot.sh pid; }

accept() {  # wire to inbox (ours) against wire to queue (Postfix, hold queue: no delivery)
  peers/posthouse.sh start >/dev/null; PF_LMTP='' peers/postfix.sh start >/dev/null
  for round in $(seq "$ROUNDS"); do for cell in 4K:1:one 4K:50:one 4K:100:one 4K:50:reuse 100K:10:reuse 1M:10:reuse; do
    IFS=: read -r s c m <<< "$cell"
    peers/postfix.sh reset
    run smtp_accept.py 127.0.0.1:12526 --label postfix --size "$s" --conns "$c" --mode "$m" --seconds "$SECS" --server-pids "$(pf)"
    run smtp_accept.py 127.0.0.1:13025 --label posthouse --size "$s" --conns "$c" --mode "$m" --seconds "$SECS" --server-pids "$(ph)"
  done; peers/posthouse.sh reset >/dev/null; done
  peers/postfix.sh stop >/dev/null; peers/posthouse.sh stop
}
deliver() {  # until visible in IMAP, 10 connections
  for round in $(seq "$ROUNDS"); do for format in maildir sdbox; do
    DC_FORMAT=$format peers/dovecot.sh start >/dev/null; PF_LMTP=127.0.0.1:12024 peers/postfix.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:12525 --label "postfix+dovecot-$format" --size 4K --conns 10 --count 1000 --users 50 \
      --imap 127.0.0.1:12143 --server-pids "$(pf) $(dc)"
    peers/postfix.sh stop >/dev/null; peers/dovecot.sh stop; rm -rf "$WORKDIR/dovecot/mail"
    peers/posthouse.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:13025 --label posthouse --bench smtp_deliver --size 4K --conns 10 --count 5000 --users 50 \
      --imap 127.0.0.1:13043 --imap-login 'u{n}@bench.test:bench-password' --server-pids "$(ph)"
    peers/posthouse.sh stop; rm -rf "$WORKDIR/posthouse/data"
  done; done
}
relay() {
  peers/posthouse.sh start >/dev/null; PF_LMTP='' peers/postfix.sh start >/dev/null
  for round in $(seq "$ROUNDS"); do for d in 1 200; do
    run relay_out.py 127.0.0.1:12525 --label postfix --size 4K --count 1500 --conns 20 --domains $d --server-pids "$(pf)"
    run relay_out.py 127.0.0.1:13025 --label posthouse --size 4K --count 5000 --conns 20 --domains $d --server-pids "$(ph)"
  done; done
  peers/postfix.sh stop >/dev/null; peers/posthouse.sh stop
}
imap() {  # one mailbox with 100,000 messages
  N=${IMAP_COUNT:-100000}
  peers/dovecot.sh start >/dev/null; peers/posthouse.sh start >/dev/null
  $PY corpus.py seed --kind small --count "$N" --imap 127.0.0.1:12143 --login u0:bench-password --mailbox big >/dev/null
  $PY corpus.py seed --kind small --count "$N" --imap 127.0.0.1:13043 --login u0@bench.test:bench-password --mailbox big >/dev/null
  OPS=${IMAP_OPS:-flags,envelope,bodystructure,hdrfields,body1000,body1000_each,search_flag,search_from,login,select,store,append}
  for round in $(seq "$ROUNDS"); do
    run imap_bench.py 127.0.0.1:12143 --label dovecot --login u0:bench-password --mailbox big --ops "$OPS" --runs 1 --passes 1 --appends 500 --server-pids "$(dc)"
    run imap_bench.py 127.0.0.1:13043 --label posthouse --login u0@bench.test:bench-password --mailbox big --ops "$OPS" --runs 1 --passes 1 --appends 500 --server-pids "$(ph)"
  done
  peers/dovecot.sh stop; peers/posthouse.sh stop
}
idle() {
  peers/dovecot.sh start >/dev/null; peers/posthouse.sh start >/dev/null
  for round in $(seq "$ROUNDS"); do for what in notify idle; do
    run imap_idle.py 127.0.0.1:12143 --label dovecot --what $what --conns 500 --count 20 --server-pids "$(dc)" --first-user 1
    run imap_idle.py 127.0.0.1:13043 --label posthouse --what $what --conns 500 --count 20 --login 'u{n}@bench.test:bench-password' --server-pids "$(ph)" --first-user 1
  done; done
  peers/dovecot.sh stop; peers/posthouse.sh stop
}
tls() {
  peers/dovecot.sh start >/dev/null; peers/posthouse.sh start >/dev/null
  for round in $(seq "$ROUNDS"); do
    run tls_bench.py 127.0.0.1:12193 --label dovecot --proto tls --conns 10 --server-pids "$(dc)"
    run tls_bench.py 127.0.0.1:13093 --label posthouse --proto tls --conns 10 --server-pids "$(ph)"
  done
  peers/dovecot.sh stop; peers/posthouse.sh stop
}
verify() {  # the same with every check of who it is from: SPF, DKIM, DMARC, ARC; mail signed by signed.test from outside
  $PY signed_corpus.py keys "$WORKDIR/signed" >/dev/null
  for round in $(seq "$ROUNDS"); do for modules in auth all; do
    DC_FORMAT=maildir peers/dovecot.sh start >/dev/null
    RS_MODULES=$modules RS_ZONE=$WORKDIR/signed/records.conf peers/rspamd.sh start >/dev/null
    PF_LMTP=127.0.0.1:12024 PF_MILTER=inet:127.0.0.1:12732 peers/postfix.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:12527 --proxy-from 198.51.100.7 --label "postfix+rspamd-$modules+dovecot" --bench smtp_deliver_verified \
      --size 4K --conns 10 --count 1000 --users 50 --messages "$WORKDIR/signed/4K" --from x@signed.test \
      --imap 127.0.0.1:12143 --server-pids "$(pf) $(dc) $(peers/rspamd.sh pid)"
    peers/postfix.sh stop >/dev/null; peers/dovecot.sh stop; rm -rf "$WORKDIR/dovecot/mail"
    PH_DNS=127.0.0.1:12753 peers/posthouse.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:13027 --proxy-from 198.51.100.7 --label posthouse --bench smtp_deliver_verified \
      --size 4K --conns 10 --count 5000 --users 50 --messages "$WORKDIR/signed/4K" --from x@signed.test \
      --imap 127.0.0.1:13043 --imap-login 'u{n}@bench.test:bench-password' --server-pids "$(ph)"
    peers/posthouse.sh stop; peers/rspamd.sh stop; rm -rf "$WORKDIR/posthouse/data"
  done; done
}
filters() {  # CPU of the filter alone, for mail with one RSA signature: Rspamd with just these modules, OpenDKIM's milter
  $PY signed_corpus.py keys "$WORKDIR/signed-rsa" --only rsa >/dev/null
  mail="--proxy-from 198.51.100.7 --size 4K --conns 10 --users 50 --messages $WORKDIR/signed-rsa/4K --from x@signed.test"
  for round in $(seq "$ROUNDS"); do
    DC_FORMAT=maildir peers/dovecot.sh start >/dev/null
    RS_MODULES=auth RS_ZONE=$WORKDIR/signed-rsa/records.conf peers/rspamd.sh start >/dev/null 2>&1
    PF_LMTP=127.0.0.1:12024 PF_MILTER=inet:127.0.0.1:12732 peers/postfix.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:12527 $mail --label rspamd-auth-alone --bench smtp_deliver_filter --count 500 \
      --imap 127.0.0.1:12143 --server-pids "$(peers/rspamd.sh pid)"
    run smtp_deliver.py 127.0.0.1:12527 $mail --label postfix+rspamd-auth+dovecot --bench smtp_deliver_rsa --count 1000 \
      --imap 127.0.0.1:12143 --server-pids "$(pf) $(dc) $(peers/rspamd.sh pid)"
    peers/postfix.sh stop >/dev/null
    OD_KEYS=$WORKDIR/signed-rsa/keys.txt peers/opendkim.sh start >/dev/null
    PF_LMTP=127.0.0.1:12024 PF_MILTER=inet:127.0.0.1:12740 peers/postfix.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:12527 $mail --label opendkim-alone --bench smtp_deliver_filter --count 500 \
      --imap 127.0.0.1:12143 --server-pids "$(peers/opendkim.sh pid)"
    peers/postfix.sh stop >/dev/null; peers/opendkim.sh stop; peers/dovecot.sh stop; rm -rf "$WORKDIR/dovecot/mail"
    PH_DNS=127.0.0.1:12753 peers/posthouse.sh start >/dev/null
    run smtp_deliver.py 127.0.0.1:13027 $mail --label posthouse --bench smtp_deliver_rsa --count 5000 \
      --imap 127.0.0.1:13043 --imap-login 'u{n}@bench.test:bench-password' --server-pids "$(ph)"
    run smtp_deliver.py 127.0.0.1:13025 ${mail#*7 } --label posthouse-unchecked --bench smtp_deliver_filter --count 5000 \
      --imap 127.0.0.1:13043 --imap-login 'u{n}@bench.test:bench-password' --server-pids "$(ph)"
    peers/posthouse.sh stop; peers/rspamd.sh stop; rm -rf "$WORKDIR/posthouse/data"
  done
}
for part in $PARTS; do "$part"; done
$PY compare.py "$OUT"
