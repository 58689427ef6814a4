//! A server whose connections fall silent, as when it fails over and its packets are dropped.

use crate::{
    Append, Database, PostgresConfig, Store, StoreConfig, StoreError,
    testing::server,
    tests::{event, opening},
};
use ambit_types::{Secret, SessionId};
use std::{path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};

const SOCKET: &str = ".s.PGSQL.5432";

/// Stands before the server. Connections it has when it falls silent stay so; new ones work.
struct Relay {
    folder: TempDir,
    silent: watch::Sender<()>,
}

impl Relay {
    fn before(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let (silent, fallen) = watch::channel(());
        let server = server.join(SOCKET);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut fallen) = (server.clone(), fallen.clone());
                fallen.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = UnixStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        Ok(()) = fallen.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { folder, silent }
    }

    /// The same login, this way.
    fn login(&self, url: &Secret) -> Secret {
        let (login, _) = url.expose().split_once("?host=").unwrap();
        Secret::new(format!("{login}?host={}", self.folder.path().display()))
    }
}

#[tokio::test]
async fn connections_that_fall_silent_are_left() {
    let Some(server) = server().await else { return };
    let direct = server.create_database().await.unwrap();
    let relay = Relay::before(server.folder());
    let config = StoreConfig {
        database: Database::Postgres(PostgresConfig {
            app: relay.login(&direct.app),
            operator: relay.login(&direct.operator),
            owner: None,
            max_connections: 4,
        }),
        ..StoreConfig::postgres(direct.clone(), crate::testing::master_key())
    };
    let store = Store::open(&config).await.unwrap();
    let operator = store.operator();
    let tenant = operator.create_tenant("acme".parse().unwrap(), "");
    let acme = store.tenant(tenant.await.unwrap().id);
    let session = SessionId::new();
    let journal = store.journal();
    journal.append(opening(&acme, session)).await.unwrap();
    let append = || journal.append(Append::new(acme.id(), session).event(event("x")));

    relay.silent.send(()).unwrap();
    let soon = Duration::from_secs(5);
    let silent = async {
        let (appended, read, ready) = futures::join!(append(), acme.tenant(), store.check());
        for outcome in [appended.map(drop), read.map(drop), ready] {
            assert!(
                matches!(outcome, Err(StoreError::Unavailable(_))),
                "{outcome:?}"
            );
        }
    };
    timeout(soon, silent).await.expect("nobody waits for ever");
    let again = async {
        append().await.unwrap();
        assert!(acme.tenant().await.unwrap().is_some());
        store.check().await.unwrap();
    };
    timeout(soon, again)
        .await
        .expect("new connections are used");
    timeout(soon, store.close()).await.expect("it closes");
}
