# After the files are gone. An upgrade restarts the service if it runs. An rpm knows no purge: /var/lib/gateway and
# the user stay.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then systemctl try-restart gateway.service || :; fi
fi
exit 0
