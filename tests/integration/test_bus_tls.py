"""The bus over TLS: a server that the given authority vouches for is taken, any other is not."""

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from syncd.testing.process import free_port
from syncd.testing.redis_process import RedisProcess, redis_executable
from tests.integration.bus_listener import Listener, come, publish_until_heard

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Paths of a certificate for 127.0.0.1 that signs itself, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis of the tests")])
    now = dt.datetime.now(dt.UTC)
    places = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_with_a_known_authority_only(tmp_path, certificate, nursery):
    cert, key = map(str, certificate)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key)
    with RedisProcess(tmp_path, *options, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}"
        listener = Listener(f"{url}?ssl_ca_certs={cert}")
        listener.bus.want([b"t"])
        await nursery.start(listener.bus.run)
        await listener.until(lambda: b"t" in listener.num_gaps and listener.is_up)
        await publish_until_heard(listener, listener, b"t")
        stranger = Listener(url)
        await nursery.start(stranger.bus.run)
        await come(
            lambda: all(
                "certificate" in each.last_error for each in stranger.bus.statistics().links
            )
        )
        assert not stranger.is_up
