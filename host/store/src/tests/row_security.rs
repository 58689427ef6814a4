//! PostgreSQL's own walls, with the application's filters left out.

use super::{event, opening, tenant};
use crate::{
    Append, Chunk, Component, Database, Digest, Document, Grant, Grown, GuardrailRule, Head,
    HostName, Issuer, NewAnchor, Requested, SlotBinding, Store, StoreConfig, StoreError,
    TenantStore, TokenRecord, day_of,
    db::{Access, Db, Statement},
    digest_of,
    testing::TestStore,
};
use ambit_ledger::{Budget, BudgetScope, Money, Period, Reserve, Spender, Usage};
use ambit_types::{ReservationId, SessionId, TokenId};
use serde_json::json;

/// Every table with a tenant in it.
const TABLES: [(&str, &str); 25] = [
    ("tenants", "SELECT tenant FROM tenants"),
    ("host_names", "SELECT tenant FROM host_names"),
    ("api_keys", "SELECT tenant FROM api_keys"),
    ("issuers", "SELECT tenant FROM issuers"),
    ("tenant_grants", "SELECT tenant FROM tenant_grants"),
    ("tenant_keys", "SELECT tenant FROM tenant_keys"),
    ("tenant_slots", "SELECT tenant FROM tenant_slots"),
    ("guardrail_rules", "SELECT tenant FROM guardrail_rules"),
    ("agents", "SELECT tenant FROM agents"),
    ("collections", "SELECT tenant FROM collections"),
    ("documents", "SELECT tenant FROM documents"),
    ("chunks", "SELECT tenant FROM chunks"),
    ("key_values", "SELECT tenant FROM key_values"),
    ("key_value_usage", "SELECT tenant FROM key_value_usage"),
    ("tenant_epochs", "SELECT tenant FROM tenant_epochs"),
    ("sessions", "SELECT tenant FROM sessions"),
    ("budgets", "SELECT tenant FROM budgets"),
    ("accounts", "SELECT tenant FROM accounts"),
    ("reservations", "SELECT tenant FROM reservations"),
    ("spending", "SELECT tenant FROM spending"),
    ("partitions", "SELECT tenant FROM partitions"),
    ("leaves", "SELECT tenant FROM leaves"),
    ("tokens", "SELECT tenant FROM tokens"),
    ("session_requests", "SELECT tenant FROM session_requests"),
    ("approvals", "SELECT tenant FROM approvals"),
];
const EVENTS: &str = "SELECT tenant FROM events";

/// At least one row in each table.
async fn fill(store: &TestStore, rows: &TenantStore) {
    let operator = store.store.operator();
    let component = Component {
        digest: Digest([1; 32]),
        name: "ambit:tool".parse().unwrap(),
        version: "1".into(),
        kind: "tool".into(),
        manifest: String::new(),
        installed_ms: 0,
    };
    operator.install_component(&component).await.unwrap();
    operator
        .add_host_name(&HostName {
            tenant: rows.id(),
            name: rows.id().to_string(),
        })
        .await
        .unwrap();
    let key = crate::ApiKey {
        id: "k".into(),
        name: String::new(),
        principal: "p".into(),
        secret_hash: Digest::default(),
        scopes: vec![],
        last_four: String::new(),
        created_ms: 0,
        expires_ms: None,
        revoked_ms: None,
        permissions: None,
    };
    rows.create_key(&key).await.unwrap();
    let issuer = Issuer {
        issuer: "i".into(),
        audiences: vec![],
        algorithms: vec![],
        types: vec![],
        leeway: 0,
        scopes: vec![],
        jwks_uri: None,
        jwks: None,
    };
    rows.put_issuer(&issuer).await.unwrap();
    rows.put_grant(&Grant {
        component: component.name,
        permissions: json!({}),
        limits: json!({}),
    })
    .await
    .unwrap();
    rows.bind_slot(&SlotBinding {
        slot: "routing".into(),
        component: component.digest,
    })
    .await
    .unwrap();
    rows.replace_rules(&[GuardrailRule {
        stage: "input".into(),
        category: "pii".into(),
        action: "mask".into(),
    }])
    .await
    .unwrap();
    rows.apply_agent(&"assistant".parse().unwrap(), &json!({}))
        .await
        .unwrap();
    let collection = "c".parse().unwrap();
    rows.ensure_collection(&collection, None).await.unwrap();
    let chunk = Chunk {
        anchor: String::new(),
        headings: vec![],
        text: "secret of this tenant".into(),
    };
    let document = Document {
        id: "d".into(),
        title: String::new(),
        content_hash: vec![],
        attributes: Default::default(),
        chunks: vec![chunk],
    };
    rows.put_documents(&collection, &[document]).await.unwrap();
    rows.put_key_value("b/k", b"v").await.unwrap();
    let budget = Budget {
        scope: BudgetScope::tenant(),
        period: Period::Day,
        limit: Money::MAX,
    };
    rows.set_budget(&budget).await.unwrap();
    let [agent, key, provider, model] = ["a", "k", "p", "m"].map(Into::into);
    let reserve = Reserve {
        id: ReservationId::new(),
        amount: Money::ZERO,
        at_ms: 0,
        spender: Spender {
            agent,
            key,
            provider,
            model,
        },
        tokens: Default::default(),
        above: std::sync::Arc::default(),
    };
    let id = reserve.id;
    let session = SessionId::new();
    let append = opening(rows, session).reserve(reserve);
    let append = append.settle(id, Money::ZERO, Usage::default());
    let head = store.store.journal().append(append).await.unwrap();
    let number = operator.last_anchor().await.unwrap();
    let mut grown = Grown::default();
    grown.tree.push(head.head);
    let (seq, hash) = (head.last_seq, head.head);
    grown.leaves.push((session, Head { seq, hash }));
    let anchor = NewAnchor {
        number: number.map_or(1, |last| last.number + 1),
        time_ms: 0,
        note: String::new(),
        partitions: [((rows.id(), day_of(session).unwrap()), grown)].into(),
        removed: Vec::new(),
    };
    operator.put_anchor(&anchor).await.unwrap();
    let token = TokenRecord {
        id: TokenId::new(),
        parent: None,
        principal: String::new(),
        key: None,
        agent: None,
        session: None,
        created_ms: 0,
        expires_ms: 0,
        revoked_ms: None,
    };
    rows.create_token(&token, None).await.unwrap();
    let wanted = Requested {
        session,
        digest: digest_of(b""),
    };
    let requested = rows.request_session("alice", "key", wanted).await;
    requested.unwrap();
    let bound = crate::Bound {
        arguments: Digest::default(),
        policy: Digest::default(),
    };
    let ask = crate::ApprovalOp::Ask(crate::NewApproval {
        id: ambit_types::ApprovalId::new(),
        agent: "a".into(),
        principal: "p".into(),
        tool: "t".into(),
        bound,
        by_another: false,
        created_ms: 0,
        expires_ms: 0,
    });
    let append = Append::new(rows.id(), session)
        .event(event("approval"))
        .approvals([ask]);
    store.store.journal().append(append).await.unwrap();
}

async fn tenants_seen(
    db: &Db,
    access: Access,
    sql: &'static str,
) -> Result<Vec<String>, StoreError> {
    let mut tx = db.read(access).await?;
    let rows = Statement {
        name: "UNFILTERED",
        sql,
    }
    .query()
    .all(&mut tx)
    .await?;
    rows.iter().map(|row| row.text(0)).collect()
}

#[tokio::test]
async fn an_unfiltered_query_sees_one_tenant() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let (_, acme) = tenant(&store, "acme").await;
    let (_, globex) = tenant(&store, "globex").await;
    fill(&store, &acme).await;
    fill(&store, &globex).await;
    let db = &store.store.db;
    for (table, sql) in TABLES.into_iter().chain([("events", EVENTS)]) {
        for rows in [&acme, &globex] {
            let seen = tenants_seen(db, Access::Tenant(rows.id()), sql)
                .await
                .unwrap();
            assert!(
                !seen.is_empty() && seen.iter().all(|tenant| *tenant == rows.id().to_string()),
                "{table}: {seen:?}"
            );
        }
        assert_eq!(
            tenants_seen(db, Access::EachTenant, sql).await.unwrap(),
            Vec::<String>::new(),
            "{table} without a tenant"
        );
    }
    // The operator's login crosses tenants where its work needs that, and only there.
    for sql in [
        "SELECT tenant FROM tenants",
        "SELECT tenant FROM host_names",
        EVENTS,
        "SELECT tenant FROM sessions",
        "SELECT tenant FROM budgets",
        "SELECT tenant FROM tokens",
    ] {
        let mut seen = tenants_seen(db, Access::Operator, sql).await.unwrap();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2, "{sql}");
    }
    for sql in [
        "SELECT tenant FROM api_keys",
        "SELECT tenant FROM chunks",
        "SELECT tenant FROM issuers",
        "SELECT tenant FROM guardrail_rules",
    ] {
        assert!(
            matches!(
                tenants_seen(db, Access::Operator, sql).await,
                Err(StoreError::Database { .. })
            ),
            "{sql}"
        );
    }
    store.store.close().await;
}

#[tokio::test]
async fn writes_for_another_tenant_are_refused_or_touch_nothing() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let (_, acme) = tenant(&store, "acme").await;
    let (_, globex) = tenant(&store, "globex").await;
    fill(&store, &acme).await;
    fill(&store, &globex).await;
    let write = async |sql: &'static str, bind: bool| {
        let mut tx = store
            .store
            .db
            .write(Access::Tenant(acme.id()))
            .await
            .unwrap();
        let query = Statement {
            name: "HOSTILE",
            sql,
        }
        .query();
        let query = if bind {
            query.bind(globex.id().to_string())
        } else {
            query
        };
        let changed = query.execute(&mut tx).await?;
        tx.commit().await?;
        Ok::<_, StoreError>(changed)
    };
    for sql in [
        "INSERT INTO agents (tenant, name, definition, version, updated_ms) VALUES ($1, 'evil', '{}', 1, 0)",
        "UPDATE agents SET tenant = $1",
        "UPDATE accounts SET tenant = $1",
        "INSERT INTO spending SELECT $1, day, agent, key_id, provider, model, 0, 0, 0, 0, 0, 0, 0 FROM spending",
        "INSERT INTO events SELECT $1, session, 99, schema_version, kind, time_ms, header, body, content_hash, previous_hash FROM events",
    ] {
        assert!(
            matches!(write(sql, true).await, Err(StoreError::Database { .. })),
            "{sql}"
        );
    }
    for sql in [
        "UPDATE agents SET definition = '1' WHERE tenant = $1",
        "DELETE FROM documents WHERE tenant = $1",
        "UPDATE accounts SET settled = 1 WHERE tenant = $1",
        "UPDATE reservations SET cost = 1 WHERE tenant = $1",
        "DELETE FROM budgets WHERE tenant = $1",
    ] {
        assert_eq!(write(sql, true).await.unwrap(), 0, "{sql}");
    }
    // One's own rows only, even with no filter at all; and what no login of ours may do.
    assert_eq!(write("DELETE FROM documents", false).await.unwrap(), 1);
    for sql in [
        "UPDATE events SET kind = 'x'",
        "DELETE FROM accounts",
        "DELETE FROM reservations",
        "DELETE FROM spending",
        "DELETE FROM events",
        "DELETE FROM sessions",
        "UPDATE components SET name = 'x'",
        "UPDATE operator_grants SET permissions = '{}'",
        "CREATE TABLE mine (x INT)",
        "ALTER TABLE agents DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON agents",
        "SET ROLE ambit_operator",
        "SET ROLE ambit_owner",
        "UPDATE _sqlx_migrations SET success = false",
    ] {
        assert!(write(sql, false).await.is_err(), "{sql}");
    }
    assert_eq!(globex.agents().await.unwrap()[0].definition, json!({}));
    assert_eq!(
        globex.stats(&"c".parse().unwrap()).await.unwrap().documents,
        1
    );
    // The tenant of a transaction ends with it: the connection goes back to the pool without one.
    assert_eq!(
        tenants_seen(&store.store.db, Access::EachTenant, EVENTS)
            .await
            .unwrap(),
        Vec::<String>::new()
    );
    let append = Append::new(acme.id(), SessionId::new()).event(event("x"));
    assert!(matches!(
        store.store.journal().append(append).await,
        Err(StoreError::NotFound { .. })
    ));
    store.store.close().await;
}

/// So that a table of a later migration cannot be forgotten.
#[tokio::test]
async fn every_table_with_a_tenant_is_behind_the_wall() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let Db::Postgres { app, .. } = &store.store.db else {
        panic!("PostgreSQL")
    };
    let tables: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind = 'r' AND a.attname = 'tenant' AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(&app.now())
    .await
    .unwrap();
    let mut expected: Vec<_> = TABLES
        .iter()
        .map(|(table, _)| *table)
        .chain(["events"])
        .map(|table| (table.to_owned(), true, true))
        .collect();
    expected.sort();
    assert_eq!(tables, expected);
    let leading: Vec<(String,)> = sqlx::query_as(
        "SELECT t.relname::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_attribute tenant ON tenant.attrelid = t.oid \
         WHERE tenant.attname = 'tenant' AND i.indisprimary AND i.indkey[0] <> tenant.attnum",
    )
    .fetch_all(&app.now())
    .await
    .unwrap();
    assert_eq!(
        leading,
        [],
        "tables whose primary key the tenant does not lead"
    );
    store.store.close().await;
}

#[tokio::test]
async fn a_login_that_the_wall_does_not_bind_is_refused() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let Database::Postgres(good) = &store.config.database else {
        panic!("PostgreSQL")
    };
    let owner = good.owner.clone().unwrap();
    for (app, operator, expected) in [
        (&owner, &good.operator, "owns relations"),
        (
            &good.operator,
            &good.operator,
            "is not a member of its group",
        ),
        (&good.app, &good.app, "is not a member of its group"),
        (&good.app, &owner, "owns relations"),
    ] {
        let config = crate::PostgresConfig {
            app: app.clone(),
            operator: operator.clone(),
            owner: None,
            max_connections: 1,
        };
        match Store::open(&StoreConfig::postgres(config, crate::testing::master_key())).await {
            Err(StoreError::Role(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    store.store.close().await;
}
