#!/bin/sh
# Deletes from the root of an image what only its making needed: pip and what installs by it, the
# caches of apt, manuals, translations. The licenses of Debian's packages stay.
set -eu
find /usr -xdev -path '*python*' \( -name ensurepip -o -name python-wheels -o -name pip \
  -o -name 'pip-*' -o -name setuptools -o -name 'setuptools-*' -o -name wheel -o -name 'wheel-*' \
  -o -name pkg_resources -o -name _distutils_hack -o -name distutils-precedence.pth \
  \) -prune -exec rm -rf {} +
find /usr/share/doc -type f ! -name copyright -delete
rm -rf /usr/bin/pip* /usr/local/bin/pip* /usr/share/man /usr/share/info /usr/share/locale \
  /var/lib/apt/lists/* /var/cache/* /var/log/* /opt/cairn/build
