#!/bin/sh
# Writes the files beside it to /etc/redis, with passwords of the environment in place of the words ..._PASSWORD.
#   prepare.sh                 redis.conf, users.acl and tls.conf, each time anew
#   prepare.sh sentinel        also the files that servers and Sentinels write to: these once
#   prepare.sh tls NAME...     also an authority, once, and a certificate for these names
set -eu
umask 077
here=$(dirname "$0")
there=/etc/redis
owner=999:999 # user and group of the image of Redis

own() {
    [ "$(id -u)" -ne 0 ] || chown "$owner" "$@"
}

rules=
for name in ADMIN SYNCD REPLICA SENTINEL SENTINELS ASK; do
    name=${name}_PASSWORD
    eval "value=\${$name:-}"
    case $value in
    *[!A-Za-z0-9]* | '')
        echo "$name must be set, to letters and digits alone: openssl rand -hex 32" >&2
        exit 2
        ;;
    esac
    rules="${rules}s/$name/$value/g;"
done

# Beside its place and then renamed: a server that starts meanwhile reads the former one.
copy() {
    sed "$rules" "$here/$1" >"$there/$2.new"
    own "$there/$2.new"
    mv "$there/$2.new" "$there/$2"
}

copy_once() {
    [ -e "$there/$2" ] || copy "$1" "$2"
}

certify() {
    names=
    for name; do names="$names,DNS:$name"; done
    curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    tls=$there/tls
    mkdir -p "$tls"
    if [ ! -e "$there/ca.key" ]; then
        [ ! -e "$tls/redis.crt" ] || return 0 # somebody else's
        openssl req -x509 $curve -days 3650 -subj "/CN=authority of this Redis" \
            -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$there/ca.key" -out "$tls/ca.crt"
    fi
    {
        echo "subjectAltName=${names#,}"
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "subjectKeyIdentifier=hash"
        echo "authorityKeyIdentifier=keyid"
    } >"$there/extensions"
    openssl req $curve -subj "/CN=$1" -keyout "$tls/redis.key.new" -out "$there/redis.csr"
    openssl x509 -req -in "$there/redis.csr" -CA "$tls/ca.crt" -CAkey "$there/ca.key" -CAcreateserial \
        -days 3650 -extfile "$there/extensions" -out "$tls/redis.crt.new"
    own "$tls/redis.key.new"
    mv "$tls/redis.key.new" "$tls/redis.key"
    mv "$tls/redis.crt.new" "$tls/redis.crt"
    chmod 755 "$tls"
    chmod 644 "$tls/ca.crt" "$tls/redis.crt"
}

chmod 755 "$there"
own "$there"
for each in redis.conf users.acl tls.conf; do copy "$each" "$each"; done
case ${1:-} in
sentinel)
    for number in 1 2; do copy_once "redis-$number.conf" "redis-$number.conf"; done
    for number in 1 2 3; do copy_once sentinel.conf "sentinel-$number.conf"; done
    ;;
tls)
    shift
    certify "$@"
    ;;
esac
