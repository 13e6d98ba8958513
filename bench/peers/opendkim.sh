#!/bin/bash
# OpenDKIM as Postfix's milter, verifying only: start|stop|pid|clean, all state under $WORKDIR/opendkim.
#   OD_KEYS=FILE peers/opendkim.sh start;  PF_MILTER=inet:127.0.0.1:12740 peers/postfix.sh start
# Needs: apt-get install --no-install-recommends opendkim   (not started by the system)
# OD_KEYS has a line for each key: "selector._domainkey.domain record" (signed_corpus.py writes keys.txt), so that no
# DNS is asked. Port (loopback): 12740.
set -eu
WORKDIR=${WORKDIR:-${TMPDIR:-/tmp}/mailbench}; D=$WORKDIR/opendkim
case ${1:-start} in
  start) mkdir -p "$D"
    cat > "$D/opendkim.conf" <<E
Mode v
Socket inet:12740@127.0.0.1
PidFile $D/pid
UserID root
Background yes
Syslog no
AlwaysAddARHeader yes
TestPublicKeys ${OD_KEYS}
InternalHosts $D/nobody
E
    echo 203.0.113.1 > "$D/nobody"
    opendkim -x "$D/opendkim.conf"; sleep 0.5; cat "$D/pid" ;;
  stop) kill "$(cat "$D/pid")" ;;
  pid) cat "$D/pid" ;;
  clean) rm -rf "$D" ;;
esac
