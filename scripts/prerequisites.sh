#!/bin/bash
# Installs what building and the lab need and this machine does not have: packages of Debian, Rust by rustup, Go.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(
  build-essential musl-tools ca-certificates curl git        # building
  iproute2 procps util-linux nftables conntrack              # namespaces, and kube-proxy on the nodes
  containerd runc containernetworking-plugins                # pods
  frr bird2 gobgpd exabgp                                    # routers
  arping tcpdump                                             # the clients
)
GO_VERSION=1.26.0

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

missing=()
for package in "${PACKAGES[@]}"; do
  dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done

if ((${#missing[@]})); then
  if [ "$(id -u)" != 0 ]; then
    say "These packages are missing; run as root, or: apt-get install ${missing[*]}"
    exit 1
  fi
  say "installing ${missing[*]}"
  # Neither the distribution's containerd nor its routers shall run on the machine itself: the lab starts its own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Nothing that is there may go for it: another container runtime, say, which conflicts with Debian's containerd.
  if ! apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null; then
    say "apt-get could not install ${missing[*]} without removing something else. Use a machine or virtual machine of"
    say "its own, or install the programs of these packages in your own way."
    exit 1
  fi
fi

export GOTOOLCHAIN=auto
export PATH="$PWD/target/tools/go/bin:$HOME/.cargo/bin:$PATH"
if ! have cargo; then
  say "Rust is missing; installing it by rustup into $HOME/.cargo"
  installer="https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init"
  folder=$(mktemp -d)
  fetch() { curl --proto '=https' --tlsv1.2 -sSf "$@"; }
  if ! (cd "$folder" && fetch -O "$installer" && sum=$(fetch "$installer.sha256" | cut -c1-64) &&
    echo "$sum  rustup-init" | sha256sum --check --status && chmod +x rustup-init &&
    ./rustup-init -y --quiet --profile minimal --no-modify-path --default-toolchain none >/dev/null); then
    say "rustup could not be had. Install the Rust version that rust-toolchain.toml names, with rustfmt, clippy and the"
    say "target x86_64-unknown-linux-musl, then run this again."
    exit 1
  fi
  rm -rf "$folder"
fi
# The version and target of rust-toolchain.toml; rustup fetches what is not there.
if have rustup; then
  rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install >/dev/null
  rustup target list --installed | grep -q '^x86_64-unknown-linux-musl$' || rustup target add x86_64-unknown-linux-musl
elif ! rustc --version | grep -qF "rustc $(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)"; then
  say "This Rust is $(rustc --version); rust-toolchain.toml names another. Install rustup, which fetches that version."
  exit 1
elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-musl" ]; then
  say "This Rust has no target x86_64-unknown-linux-musl, which the static binaries need; install it beside $(rustc --print sysroot)."
  exit 1
fi

# Any Go since 1.21 fetches by itself the version that a go.mod names.
go_is_new_enough() { have go && go version | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])|go[2-9]'; }
if ! go_is_new_enough; then
  say "Go 1.21 or later is missing; fetching Go $GO_VERSION into target/tools/go"
  mkdir -p target/tools
  if ! curl -sSfL "https://go.dev/dl/go$GO_VERSION.linux-amd64.tar.gz" | tar -C target/tools -xz; then
    say "Go could not be had. Install Go 1.21 or later (the lab builds Kubernetes from its Go modules), then run this again."
    exit 1
  fi
fi

# NAMESPACES of the network and overlayfs are all that the lab asks of the kernel.
if [ "$(id -u)" = 0 ] && ! grep -qw overlay /proc/filesystems; then
  modprobe overlay 2>/dev/null || { say "this kernel has no overlayfs, which containerd needs"; exit 1; }
fi
