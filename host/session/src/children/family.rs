//! Sessions that start others, and what ends or wakes the one with the other.

use crate::{
    chat::{Run, Sessions},
    durable::live_agent,
    library::now_ms,
    past::Past,
    tenants::{Tenant, Tenants},
    turn::Start,
};
use ambit_store::{Append, Approval, Session, SessionState, StoreError};
use ambit_types::{Error, ErrorKind, SessionId, TenantId};
use std::{pin::Pin, sync::Arc};

/// By whom a session is gone on with: the one that it started is over.
const BY_CHILD: &str = "child";

/// The one that started it.
const BY_PARENT: &str = "parent";

/// Sessions looked at at a time.
const PAGE: u32 = 256;

type Working<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

impl Run {
    /// Ends what the session started, when it is over itself. What fails is looked after later.
    pub(crate) async fn end_children(&self) {
        if self.progress.child().is_some()
            && let Err(error) = self
                .sessions
                .cancel_children(self.tenant.id, self.session)
                .await
        {
            not_yet(self.session, &error);
        }
    }

    /// Has families looked after at once: the session that started this one, or that this one started, may be over.
    pub(crate) fn tell_family(&self) {
        if self.parent().is_some() || self.progress.child().is_some() {
            self.sessions.families.look();
        }
    }
}

impl Sessions {
    /// Ends the sessions that one started and that are not over, and theirs.
    pub(crate) fn cancel_children(&self, tenant: TenantId, parent: SessionId) -> Working<'_> {
        Box::pin(async move {
            let children = self.platform.store.tenant(tenant).children(parent).await?;
            for child in children {
                self.cancel(&child).await?;
            }
            Ok(())
        })
    }

    /// Ends a child.
    pub(super) fn end_child<'a>(&'a self, known: &'a Session) -> Working<'a> {
        Box::pin(self.cancel(known))
    }

    /// Goes on with a session that waits for nobody, as whom it acts for: its child is over, or its parent waits for it. One that cannot be gone on with
    /// waits for somebody to see why, or is over.
    ///
    /// # Errors
    /// The store's, and that somebody else goes on with it.
    async fn take_up_again(
        &self,
        tenants: &Tenants,
        known: &Session,
        by: &str,
    ) -> Result<(), Error> {
        let store = self.platform.store.tenant(known.tenant);
        let tenant = self.tenant_now(tenants, known).await?;
        let run = match Past::read(&store, known.id, &self.looking).await {
            Ok(past) if past.last_seq != known.head_seq => {
                let why = "somebody else goes on with this session";
                return Err(Error::new(ErrorKind::Conflict, why));
            }
            Ok(past) => self.taken_over(known, tenant, past).await,
            Err(error) => Err(error),
        };
        let run = run.and_then(|mut run| {
            if !run.progress.has_more() {
                return Err(Error::internal("there is nothing to go on with"));
            }
            run.note_resume(by)?;
            Ok(run)
        });
        match run {
            Ok(run) => self.work(run, Start::Again).await,
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }) => Err(error),
            Err(error) => {
                let append = Append::new(known.tenant, known.id).after(known.head_seq);
                self.give_up(known, append, &error).await
            }
        }
    }

    /// The tenant of a session. Where it does not let the session have been started, which would be over for good then, as it is in the database now: this
    /// process may not have heard of a change.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::NotFound`] of a tenant that is not served.
    pub(crate) async fn tenant_now(
        &self,
        tenants: &Tenants,
        known: &Session,
    ) -> Result<Arc<Tenant>, Error> {
        let served = || {
            let tenant = tenants.by_id(known.tenant);
            tenant.ok_or_else(|| Error::not_found("its tenant is not served at present"))
        };
        let tenant = served()?;
        let Some(parent) = known.parent else {
            return Ok(tenant);
        };
        let handed = match live_agent(&tenant, known) {
            Ok(agent) => {
                let name = &agent.definition.name;
                self.handed(&tenant, name, parent).await.map(drop)
            }
            Err(error) => Err(error),
        };
        match handed {
            Err(error) if matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::NotFound) => {
                match tenants.reload(known.tenant).await {
                    Err(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }) => {
                        Err(error)
                    }
                    // As it is served: what could not be bound is in the log.
                    Ok(()) | Err(_) => served(),
                }
            }
            _ => Ok(tenant),
        }
    }

    /// Goes on with a child that waits for nobody, and its parent for it.
    async fn go_on_for_parent(
        &self,
        tenants: &Tenants,
        tenant: TenantId,
        child: SessionId,
    ) -> Result<(), Error> {
        let known = self.platform.store.tenant(tenant).session(child).await?;
        match known {
            Some(known) if known.state == SessionState::Suspended => {
                self.take_up_again(tenants, &known, BY_PARENT).await
            }
            _ => Ok(()),
        }
    }

    /// What somebody can decide on in a session that another one started, or in those that it started.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn pending_below(
        &self,
        tenant: TenantId,
        child: SessionId,
    ) -> Result<Vec<Approval>, Error> {
        let (store, now) = (self.platform.store.tenant(tenant), now_ms());
        let (mut pending, mut sessions) = (Vec::new(), vec![child]);
        while let Some(session) = sessions.pop() {
            let rows = store.approvals_of(session).await?;
            pending.extend(rows.into_iter().filter(|row| row.is_pending(now)));
            let children = store.children(session).await?;
            sessions.extend(children.into_iter().map(|child| child.id));
        }
        Ok(pending)
    }

    /// Ends sessions whose starter is over, and goes on with those whose child is: what their own processes did not come to.
    pub(crate) async fn look_after_families(&self, tenants: &Tenants) -> Result<(), StoreError> {
        let operator = self.platform.store.operator();
        for orphan in operator.orphans(PAGE).await? {
            if let Err(error) = self.cancel(&orphan).await {
                not_yet(orphan.id, &error);
            }
        }
        for (tenant, child) in self.families.take() {
            if let Err(error) = self.go_on_for_parent(tenants, tenant, child).await {
                not_yet(child, &error);
                // Who waits for it asks again; what else came of it does not change by being tried here.
                if matches!(error.kind(), ErrorKind::Unavailable { .. }) {
                    self.families.not_yet(tenant, child);
                }
            }
        }
        let mut after = None;
        loop {
            let page = operator.sessions_to_wake(after, PAGE).await?;
            for parent in &page {
                if let Err(error) = self.take_up_again(tenants, parent, BY_CHILD).await {
                    not_yet(parent.id, &error);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }
}

/// It is tried again.
fn not_yet(session: SessionId, error: &Error) {
    tracing::debug!(%session, error = error as &dyn std::error::Error, "a session could not be woken or ended just now");
}
