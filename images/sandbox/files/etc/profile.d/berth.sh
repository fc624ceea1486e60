export LANG="${LANG:-C.UTF-8}"
umask 022
