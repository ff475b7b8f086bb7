"""Makes the certificates of the tests anew (needs the Python package `cryptography`): a CA that nothing trusts but a process that is told
to, and certificates of it that are good, expired, not yet valid, and for another host. They guard nothing."""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HERE = Path(__file__).parent
AUTHORITY, SERVER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
AUTHORITY_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "storage-sync test CA")])


def write(name, certificate):
    (HERE / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def builder(subject, issuer, key, since, until):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(since, 1, 1))
        .not_valid_after(datetime(until, 1, 1))
    )


def issue(name, host, since, until, by_itself=False):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = builder(subject, subject if by_itself else AUTHORITY_NAME, SERVER, since, until)
    made = made.add_extension(x509.BasicConstraints(False, None), True)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    write(name, made.sign(SERVER if by_itself else AUTHORITY, hashes.SHA256()))


authority = builder(AUTHORITY_NAME, AUTHORITY_NAME, AUTHORITY, 2020, 2120).add_extension(x509.BasicConstraints(True, None), True)
write("authority", authority.sign(AUTHORITY, hashes.SHA256()))
issue("good", "localhost", 2020, 2120)
issue("expired", "localhost", 2020, 2021)
issue("early", "localhost", 2100, 2120)
issue("elsewhere", "elsewhere.example", 2020, 2120)
issue("self-signed", "localhost", 2020, 2120, by_itself=True)
(HERE / "key.pem").write_bytes(
    SERVER.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
)
