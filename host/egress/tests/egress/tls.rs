//! TLS is with the name of the URL, whatever the address; only a certificate of that name from a trusted authority will do.

use crate::support::*;
use ambit_egress::{Egress, EgressError};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// A configuration that trusts this authority alone.
    fn trusted(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A server with a certificate for `name`; the names clients asked for, and its address.
    async fn serve(&self, name: &str) -> (Arc<Mutex<Vec<Option<String>>>>, std::net::SocketAddr) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&names);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                seen.lock()
                    .unwrap()
                    .push(stream.get_ref().1.server_name().map(str::to_owned));
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(HELLO.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        (names, address)
    }
}

#[tokio::test]
async fn the_name_is_proven_and_the_address_pinned() {
    let authority = Authority::new();
    let (names, address) = authority.serve("a.example").await;
    let stage = Stage::new(&[&["93.184.216.34"]], address);
    let egress = Egress::with(stage.clone(), authority.trusted());
    let scope = scope(grant(
        "http = [{ origin = \"https://*:*\", methods = [\"GET\"] }]",
    ));
    for url in ["https://a.example/", "https://A.example.:8443/"] {
        assert_eq!(
            text(send(&egress, &scope, url).await.unwrap())
                .await
                .unwrap(),
            "hello"
        );
    }
    assert_eq!(
        *names.lock().unwrap(),
        [Some("a.example".to_owned()), Some("a.example".to_owned())]
    );
    assert_eq!(stage.dialled(), ["93.184.216.34:443", "93.184.216.34:8443"]);
    // The same server under another name is not that name.
    assert_eq!(
        send(&egress, &scope, "https://b.example/").await.err(),
        Some(EgressError::Tls)
    );
}

#[tokio::test]
async fn other_authorities_and_plain_servers_are_refused() {
    let (_, address) = Authority::new().serve("a.example").await;
    let plain = Server::answering(HELLO).await;
    for address in [address, plain.address] {
        for roots in [Authority::new().trusted(), Egress::public_roots().unwrap()] {
            let egress = Egress::with(Stage::new(&[&["93.184.216.34"]], address), roots);
            let result = send(
                &egress,
                &scope(origin("https://a.example")),
                "https://a.example/",
            )
            .await;
            assert_eq!(result.err(), Some(EgressError::Tls));
        }
    }
}
