//! TLS: a company's proxy has an authority of its own.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Person, aws_says};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/program/tls");
const CONFIG: &str = "[profile ir]\naws_access_key_id = K\naws_secret_access_key = hush\n";
/// What is heard through the proxy, once that is trusted.
const AS_AWS: &str = "AccessDenied: nothing but who you are";

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// AWS behind a certificate of that authority: its address.
async fn proxy() -> String {
    let certificate = CertificateDer::from_pem_file(file("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("localhost.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let (mut seen, mut piece) = (String::new(), [0; 4096]);
            while !is_whole(&seen) {
                match stream.read(&mut piece).await {
                    Ok(read) if read > 0 => seen.push_str(&String::from_utf8_lossy(&piece[..read])),
                    _ => break,
                }
            }
            let (status, body) = aws_says(&seen);
            let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

async fn run(name: &str, config: &str, variables: &[(&str, &str)]) -> super::Ran {
    let address = proxy().await;
    let person = Person::new(name, config).with(&[("AWS_ENDPOINT_URL", &address)]).with(variables);
    person.runs(&["status", "--stack", "ir", "--profile", "ir"]).await
}

#[tokio::test]
async fn the_authority_of_a_company_is_trusted_if_the_environment_or_the_profile_says_so() {
    let authority = file("authority.pem");
    run("bundle", CONFIG, &[("AWS_CA_BUNDLE", &authority)]).await.complains(AS_AWS);
    let config = format!("{CONFIG}ca_bundle = {authority}\n");
    run("bundle-profile", &config, &[]).await.complains(AS_AWS);
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_says_which_setting_is_missing() {
    let said = "invalid peer certificate: UnknownIssuer; a proxy may answer in place of AWS: set AWS_CA_BUNDLE to the file with its certificate";
    run("no-bundle", CONFIG, &[]).await.ends_with(1).complains(said);
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_named() {
    let missing = "/nowhere/ca.pem cannot be used as AWS_CA_BUNDLE or ca_bundle: No such file";
    run("bundle-missing", CONFIG, &[("AWS_CA_BUNDLE", "/nowhere/ca.pem")]).await.ends_with(3).complains(missing);
    let key = file("localhost.key");
    let empty = format!("{key} cannot be used as AWS_CA_BUNDLE or ca_bundle: it has no certificate in PEM format");
    run("bundle-empty", CONFIG, &[("AWS_CA_BUNDLE", &key)]).await.ends_with(3).complains(&empty);
}
