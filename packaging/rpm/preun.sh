# Before the files go; $1 is how many versions stay.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now gateway.service || :
fi
exit 0
