# Before the files: the user that the service runs as.
getent passwd gateway >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent \
    --shell /sbin/nologin gateway
exit 0
