//! TLS: a server with a certificate, and one that asks its clients for theirs.

use crate::grpc::Channel;
use crate::kit::{Answer, Live, NOP, answer, request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use skep_server::{Config, Server};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Somebody who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    fs::write(folder.join(name), text).unwrap();
    folder.join(name)
}

/// A server with a certificate for `localhost`; it asks for those that `clients` has signed.
fn server(
    authority: &Authority,
    clients: Option<&Authority>,
    change: impl FnOnce(&mut Config),
) -> (Live, TempDir) {
    let (files, own) = (tempfile::tempdir().unwrap(), authority.sign("localhost"));
    let live = Live::with(&[NOP], |config| {
        config.tls_cert = Some(write(files.path(), "cert.pem", &own.certificate));
        config.tls_key = Some(write(files.path(), "key.pem", &own.key));
        config.tls_clients = clients.map(|clients| write(files.path(), "clients.pem", &clients.pem()));
        change(config);
    });
    (live, files)
}

fn client(trusts: &Authority, shows: Option<&Signed>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusts.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(signed) => {
            let chain = vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Asks over TLS; `None` if the connection comes to nothing.
fn get(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> Option<Answer> {
    let connection = ClientConnection::new(Arc::clone(config), name()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream.write_all(&request("GET", path, &[], b"")).ok()?;
    let mut first = [0];
    // Who is not wanted hears of it only after the first bytes.
    stream.read_exact(&mut first).ok()?;
    Some(answer(&mut first.chain(&mut stream)))
}

#[test]
fn both_ports_speak_tls_and_nothing_else() {
    let authority = Authority::new();
    let (live, _files) = server(&authority, None, |_| {});
    let grpc = live.server.as_ref().unwrap().grpc();
    let trusting = client(&authority, None, &[]);
    for address in [live.address, grpc] {
        assert_eq!(get(address, &trusting, "/v2/health/ready").unwrap().status, 200);
        let mut plain = TcpStream::connect(address).unwrap();
        plain.write_all(&request("GET", "/v2", &[], b"")).unwrap();
        let mut told = Vec::new();
        plain.read_to_end(&mut told).ok();
        assert!(!told.starts_with(b"HTTP"), "{told:?}");
    }
    let stranger = client(&Authority::new(), None, &[]);
    assert!(get(live.address, &stranger, "/v2").is_none(), "the client does not know who signed");

    live.executor.block_on(async {
        let connector = TlsConnector::from(client(&authority, None, &[b"h2"]));
        let stream = tokio::net::TcpStream::connect(grpc).await.unwrap();
        let stream = connector.connect(name(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = HealthClient::new(Channel::over(stream).await);
        let answer = client.check(HealthCheckRequest { service: "nop".into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    });
}

#[test]
fn only_clients_with_a_certificate_are_served_if_it_is_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (live, _files) = server(&authority, Some(&clients), |_| {});
    let ann = clients.sign("ann");
    let known = client(&authority, Some(&ann), &[]);
    assert_eq!(get(live.address, &known, "/v2").unwrap().status, 200);
    let forged = Authority::new().sign("ann");
    for shows in [None, Some(&forged)] {
        assert!(get(live.address, &client(&authority, shows, &[]), "/v2/health/live").is_none());
    }
    assert_eq!(get(live.address, &known, "/v2").unwrap().status, 200);
}

#[test]
fn certificates_that_are_written_anew_are_shown() {
    let (old, new) = (Authority::new(), Authority::new());
    let (live, files) = server(&old, None, |_| {});
    let server = live.server.as_ref().unwrap();
    let renew = || live.executor.block_on(server.renew_certificates());
    let (trusts_old, trusts_new) = (client(&old, None, &[]), client(&new, None, &[]));
    assert!(!renew().unwrap());
    let signed = new.sign("localhost");
    write(files.path(), "cert.pem", &signed.certificate);
    let told = skep_runtime_core::Chain(&renew().unwrap_err()).to_string();
    assert!(told.contains("key.pem: cannot be used: "), "{told}");
    assert_eq!(get(live.address, &trusts_old, "/v2").unwrap().status, 200, "half of it is written");
    write(files.path(), "key.pem", &signed.key);
    assert!(renew().unwrap() && !renew().unwrap());
    assert_eq!(get(live.address, &trusts_new, "/v2").unwrap().status, 200);
    assert!(get(live.address, &trusts_old, "/v2").is_none());
}

#[test]
fn whoever_does_not_come_to_terms_is_given_up() {
    let (live, _files) =
        server(&Authority::new(), None, |config| config.head_limit = "50ms".parse().unwrap());
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut silent = live.connect();
        silent.write_all(begun).unwrap();
        silent.read_to_end(&mut Vec::new()).ok();
    }
}

#[test]
fn files_that_are_no_certificates_are_told() {
    let files = tempfile::tempdir().unwrap();
    let (one, other) = (Authority::new().sign("localhost"), Authority::new().sign("localhost"));
    let cert = write(files.path(), "cert.pem", &one.certificate);
    let key = write(files.path(), "key.pem", &one.key);
    let others = write(files.path(), "others.pem", &other.key);
    let empty = write(files.path(), "empty.pem", "");
    let told = |cert: &Path, key: &Path, clients: Option<&Path>| {
        let models = crate::kit::folder(&[NOP]);
        let mut config = Config::new(models.path());
        (config.http, config.grpc) = ("127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
        (config.tls_cert, config.tls_key) = (Some(cert.to_owned()), Some(key.to_owned()));
        config.tls_clients = clients.map(Path::to_owned);
        let executor = tokio::runtime::Runtime::new().unwrap();
        let error = executor.block_on(Server::start(config)).unwrap_err();
        skep_runtime_core::Chain(&error).to_string().replace(&files.path().display().to_string(), "")
    };
    assert_eq!(told(&empty, &key, None), "/empty.pem: there is no certificate in it");
    assert_eq!(told(&cert, &key, Some(&empty)), "/empty.pem: there is no certificate in it");
    assert!(told(&cert, &cert, None).starts_with("/cert.pem: cannot be read as PEM: "));
    assert!(told(&files.path().join("none"), &key, None).starts_with("/none: cannot be read as PEM: "));
    assert!(told(&cert, &others, None).starts_with("/others.pem: cannot be used: "));
}
