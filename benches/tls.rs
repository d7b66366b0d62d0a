//! TLS as AWS has it, an RSA certificate below a root, made anew by openssl.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The system's roots and ours.
pub const ROOTS: &str = "target/bench/tls/roots.pem";
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Nothing where there is no openssl.
pub fn acceptor(directory: &Path) -> Option<TlsAcceptor> {
    std::fs::create_dir_all(directory).expect("target can be written");
    std::fs::write(directory.join("leaf.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
        .expect("target can be written");
    for command in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench -keyout root.key -out root.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout leaf.key -out leaf.csr",
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile leaf.ext -out leaf.pem",
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(command.split(' ')).current_dir(directory).stdout(Stdio::null()).stderr(Stdio::null());
        openssl.status().ok().filter(std::process::ExitStatus::success)?;
    }
    let read = |name: &str| std::fs::read(directory.join(name)).expect("openssl wrote it");
    let roots = [std::fs::read(SYSTEM).unwrap_or_default(), read("root.pem")].concat();
    std::fs::write(ROOTS, roots).expect("target can be written");
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read("leaf.pem")).map(|pem| pem.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("leaf.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that it has")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    Some(TlsAcceptor::from(Arc::new(config)))
}
