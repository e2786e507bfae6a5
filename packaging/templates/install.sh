#!/bin/sh
# Installs genarm @VERSION@ for this user: curl -fsSL @URL@/install.sh | sh
#   GENARM_HOME=FOLDER   where it lies (default ~/.local/share/genarm)
#   GENARM_BIN=FOLDER    where a link to the command is laid (default ~/.local/bin)
# To remove it, delete both.
set -eu

fail() { echo "install: $*" >&2; exit 1; }

url=${GENARM_DOWNLOADS:-@URL@}
home=${GENARM_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/genarm}
bin=${GENARM_BIN:-$HOME/.local/bin}

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) name=genarm-@VERSION@-linux-x86_64 sha256=@SHA256_LINUX_X86_64@ ;;
Linux-aarch64 | Linux-arm64) name=genarm-@VERSION@-linux-aarch64 sha256=@SHA256_LINUX_AARCH64@ ;;
Darwin-arm64) name=genarm-@VERSION@-macos-arm64 sha256=@SHA256_MACOS_ARM64@ ;;
*) fail "there is no archive for $(uname -s) on $(uname -m); build it from source, or use pip install genarm" ;;
esac
[ "$sha256" != none ] || fail "release @VERSION@ has no archive for $(uname -s) on $(uname -m); build it from source"
for tool in tar xz; do
    command -v "$tool" >/dev/null || fail "$tool is missing; install it (on Debian: apt-get install xz-utils), then run this again"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if command -v curl >/dev/null; then
    curl -fSL --proto-default https --progress-bar -o "$work/archive" "$url/$name.tar.xz" || fail "cannot download $url/$name.tar.xz"
elif command -v wget >/dev/null; then
    wget -q -O "$work/archive" "$url/$name.tar.xz" || fail "cannot download $url/$name.tar.xz"
else
    fail "neither curl nor wget is there; install one, then run this again"
fi
if command -v sha256sum >/dev/null; then
    found=$(sha256sum "$work/archive")
else
    found=$(shasum -a 256 "$work/archive")
fi
[ "${found%% *}" = "$sha256" ] || fail "what was downloaded is not the release: SHA-256 ${found%% *}, expected $sha256"

mkdir -p "$home" "$bin"
tar -C "$work" -xJf "$work/archive"
# Another version stays; this one is replaced as a whole.
rm -rf "$home/$name.old"
if [ -e "$home/$name" ]; then mv "$home/$name" "$home/$name.old"; fi
mv "$work/$name" "$home/$name"
rm -rf "$home/$name.old"
ln -sf "$home/$name/bin/genarm" "$bin/genarm"
"$bin/genarm" --version
case ":$PATH:" in
*":$bin:"*) echo "Try: genarm generate -f $home/$name/share/genarm/models/demo.yaml \"Once upon a time\"" ;;
*) echo "Add $bin to your PATH, then try: genarm generate -f $home/$name/share/genarm/models/demo.yaml \"Once upon a time\"" ;;
esac
