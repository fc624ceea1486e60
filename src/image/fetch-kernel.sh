#!/bin/sh
# mmdebstrap hook: downloads the kernel's package with the new system's apt, and installs nothing. A metapackage stands
# for the versioned package it depends on.
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$BERTH_KERNEL_DIR"
versioned=$(apt-cache --no-all-versions show "$BERTH_KERNEL_PACKAGE" | sed -n 's/^Depends:.*\(linux-image-[0-9][^ ,]*\).*/\1/p')
apt-get download "${versioned:-$BERTH_KERNEL_PACKAGE}"
