# After the files. On a first installation the distribution's presets say whether it is enabled.
if [ ! -d /var/lib/gateway ]; then
    install -d -m 0700 -o gateway -g gateway /var/lib/gateway
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -eq 1 ]; then systemctl --no-reload preset gateway.service || :; fi
fi
exit 0
