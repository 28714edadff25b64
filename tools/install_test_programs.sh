#!/bin/sh
# Installs the programs in tools/test_programs.txt that are missing, from Debian's packages. Needs root
# for that. Fails if one is missing in the end.
set -eu
cd "$(dirname "$0")"
# Debian has some of them where only root's PATH looks.
PATH="$PATH:/usr/sbin:/sbin"

# Prints the field of each missing program: 1 for its name, 2 for its package.
missing() {
    grep -v '^#' test_programs.txt | while read -r program package; do
        command -v "$program" > /dev/null || case $1 in
            1) echo "$program" ;;
            2) echo "$package" ;;
        esac
    done | sort -u
}

packages=$(missing 2)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "installing" $packages
    export DEBIAN_FRONTEND=noninteractive
    # Packages of servers would start them.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -q
    apt-get install -q -y --no-install-recommends $packages
fi

programs=$(missing 1)
if [ -n "$programs" ]; then
    echo "not installed:" $programs "(Debian's packages:" "$(missing 2 | tr '\n' ' ')" "as root)" >&2
    exit 1
fi
