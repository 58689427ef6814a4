//! What remains: the stack of layers, and the questions asked of it.

use ambit_types::{CallContext, CollectionName};
use std::{collections::BTreeSet, fmt, sync::Arc};
use url::Url;

use crate::{
    Access, Acting, Class, CollectionUse, ConfigRead, HttpUse, KeyRule, KeyUse, KeysUnder,
    ModelUse, Permissions, Permit, SecretRule, SecretUse, ToolUse,
    origin::Target,
    rule::Rule,
    token::{Bearer, Credential, TokenError},
};

/// The effective permissions of one component: author ∩ operator, narrowed by tenant and token.
///
/// A value of this type exists only with an author's request and an operator's grant; there is no way to take a layer off. Clones
/// share their layers.
#[derive(Debug, Clone)]
pub struct Ambit {
    layers: Vec<(Layer, Arc<Permissions>)>,
    /// The caller's capability token, asked before every permit.
    bearer: Option<Arc<Bearer>>,
    links: [Link; Class::ALL.len()],
}

/// Who narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Layer {
    Author,
    Operator,
    Tenant,
    Token,
}

/// What the linker does with the imports of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// The author does not ask for it: not linked.
    Absent,
    /// Asked for and not granted: linked to a denial. Unless every such request is optional, [`Ambit::missing`] refuses first.
    Denial,
    /// Something of it may be allowed: linked, and each call checked.
    Granted,
}

/// A request of the manifest for which the operator grants nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub class: Class,
    /// The request as the manifest has it.
    pub request: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "permissions.{}: {}", self.class, self.request)
    }
}

/// An action that is not allowed. Says what was asked for as the component asked it, without query strings, and which layer refused;
/// fit for guest and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub class: Class,
    /// What was asked for.
    pub asked: String,
    pub refusal: Refusal,
}

/// Why an action is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The first layer, from the author on, with no rule for it.
    NotCovered(Layer),
    /// No rule can cover such a thing.
    Never(&'static str),
    /// The caller's capability token is not good for it, here or now.
    Token(TokenError),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.asked)?;
        f.write_str(match self.refusal {
            Refusal::NotCovered(Layer::Author) => "the component's manifest does not ask for it",
            Refusal::NotCovered(Layer::Operator) => "the operator's grant does not cover it",
            Refusal::NotCovered(Layer::Tenant) => "the tenant's grant does not cover it",
            Refusal::NotCovered(Layer::Token) => "the caller's token does not cover it",
            Refusal::Never(why) => why,
            Refusal::Token(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for Denied {}

impl Ambit {
    /// Author ∩ operator. An operator who granted nothing is an empty `Permissions`: everything is denied.
    #[must_use]
    pub fn new(author: Arc<Permissions>, operator: Arc<Permissions>) -> Self {
        let mut links = [Link::Absent; Class::ALL.len()];
        for_each_request(&author, &operator, |class, _, _, granted| {
            let link = &mut links[class as usize];
            if granted {
                *link = Link::Granted;
            } else if *link == Link::Absent {
                *link = Link::Denial;
            }
        });
        Self {
            layers: vec![(Layer::Author, author), (Layer::Operator, operator)],
            bearer: None,
            links,
        }
    }

    /// What the tenant leaves. A grant, once there, lists everything it allows; no grant does not narrow.
    #[must_use]
    pub fn narrowed_by_tenant(self, grant: Option<Arc<Permissions>>) -> Self {
        self.narrowed(Layer::Tenant, grant)
    }

    /// What the caller's capability token leaves: a layer for each delegation that narrowed it.
    #[must_use]
    pub fn narrowed_by_token(self, layers: impl IntoIterator<Item = Arc<Permissions>>) -> Self {
        self.narrowed(Layer::Token, layers)
    }

    /// What the credential of a call's principal leaves. A capability token is asked again before each permit: whether it is still good,
    /// in this session and with this agent.
    #[must_use]
    pub fn narrowed_by_caller(self, context: &CallContext) -> Self {
        let Some(credential) = Credential::of(&context.principal) else {
            return self;
        };
        let mut this = self.narrowed_by_token(credential.permissions.clone());
        let bearer = credential.token.as_ref();
        this.bearer = bearer.map(|held| Arc::new(Bearer::new(held, context)));
        this
    }

    fn narrowed(
        mut self,
        layer: Layer,
        grants: impl IntoIterator<Item = Arc<Permissions>>,
    ) -> Self {
        self.layers
            .extend(grants.into_iter().map(|grant| (layer, grant)));
        self
    }

    /// How the imports of a class are linked: decided by author and operator alone, so one linker serves all tenants and callers.
    #[must_use]
    pub fn link(&self, class: Class) -> Link {
        self.links[class as usize]
    }

    /// The requests that are not optional and for which the operator grants nothing. A component with any is not admitted.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if let [(_, author), (_, operator), ..] = self.layers.as_slice() {
            for_each_request(author, operator, |class, request, optional, granted| {
                if !optional && !granted {
                    missing.push(Missing {
                        class,
                        request: request.to_string(),
                    });
                }
            });
        }
        missing
    }

    /// What narrows, in order: whoever compares two of these sees whether anything that is allowed may have changed.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, &Permissions)> {
        let layers = self.layers.iter();
        layers.map(|(layer, permissions)| (*layer, &**permissions))
    }

    /// May anything be done for this caller, here and now? Asked for what no rule is about: an agent's step.
    ///
    /// # Errors
    /// Why his capability token is not good for it.
    pub fn acting(&self) -> Result<Permit<Acting>, TokenError> {
        self.stands()?;
        Ok(Permit::new(Acting))
    }

    /// May this tool be called? No rule is about tools; what one reaches is asked for each time.
    ///
    /// # Errors
    /// As for [`Ambit::acting`].
    pub fn tool<'a>(&self, name: &'a str) -> Result<Permit<ToolUse<'a>>, TokenError> {
        self.stands()?;
        Ok(Permit::new(ToolUse { name }))
    }

    /// May this request be sent? `method` in upper case, as it will be sent; it and the URL are the only things to send.
    ///
    /// # Errors
    /// The refusal, by the outermost layer that has no rule for it.
    pub fn http<'a>(&self, method: &'a str, url: &'a Url) -> Result<Permit<HttpUse<'a>>, Denied> {
        let asked = || format!("{} {}", method.escape_debug(), show_url(url));
        let target = Target::new(url).map_err(|why| Denied {
            class: Class::Http,
            asked: asked(),
            refusal: Refusal::Never(why),
        })?;
        let path = url.path();
        self.every_layer(Class::Http, asked, |layer| {
            any(&layer.http, |rule| rule.matches(method, &target, path))
        })?;
        Ok(Permit::new(HttpUse { method, url }))
    }

    /// May this model be called?
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn model<'a>(
        &self,
        provider: &'a str,
        model: &'a str,
    ) -> Result<Permit<ModelUse<'a>>, Denied> {
        let asked = || format!("model {}/{}", provider.escape_debug(), model.escape_debug());
        self.every_layer(Class::Models, asked, |layer| {
            any(&layer.models, |rule| rule.matches(provider, model))
        })?;
        Ok(Permit::new(ModelUse { provider, model }))
    }

    /// May this collection be read, or written?
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn collection(
        &self,
        access: Access,
        name: &CollectionName,
    ) -> Result<Permit<CollectionUse>, Denied> {
        let asked = || format!("{access}:{name}");
        self.every_layer(Class::Collections, asked, |layer| {
            any(&layer.collections, |rule| rule.matches(access, name))
        })?;
        Ok(Permit::new(CollectionUse {
            access,
            name: name.clone(),
        }))
    }

    /// May this key of the tenant's key-value store be used?
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn key(&self, key: &str) -> Result<Permit<KeyUse>, Denied> {
        let asked = || format!("key {}", key.escape_debug());
        self.every_layer(Class::KeyValue, asked, |layer| {
            any(&layer.keyvalue, |rule| rule.matches(key))
        })?;
        Ok(Permit::new(KeyUse {
            key: key.to_owned(),
        }))
    }

    /// May there be a key that starts so and may be used? Each key is still asked for by [`Ambit::key`].
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn keys_under(&self, prefix: &str) -> Result<Permit<KeysUnder>, Denied> {
        let asked = || format!("keys {}*", prefix.escape_debug());
        let sought = KeyRule::under(prefix);
        self.every_layer(Class::KeyValue, asked, |layer| {
            any(&layer.keyvalue, |rule| rule.overlaps(&sought))
        })?;
        Ok(Permit::new(KeysUnder {
            prefix: prefix.to_owned(),
        }))
    }

    /// May this configuration value be read?
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn config<'a>(&self, key: &'a str) -> Result<Permit<ConfigRead<'a>>, Denied> {
        let asked = || format!("config {}", key.escape_debug());
        self.every_layer(Class::Config, asked, |layer| {
            any(&layer.config, |rule| rule.matches(key))
        })?;
        Ok(Permit::new(ConfigRead { key }))
    }

    /// May this secret go into `header` of a request to `url`?
    ///
    /// # Errors
    /// As for [`Ambit::http`].
    pub fn secret<'a>(
        &self,
        name: &'a str,
        header: &'a str,
        url: &'a Url,
    ) -> Result<Permit<SecretUse<'a>>, Denied> {
        let asked = || {
            format!(
                "secret {} in header {} to {}",
                name.escape_debug(),
                header.escape_debug(),
                show_url(url)
            )
        };
        let target = Target::new(url).map_err(|why| Denied {
            class: Class::Secrets,
            asked: asked(),
            refusal: Refusal::Never(why),
        })?;
        self.every_layer(Class::Secrets, asked, |layer| {
            any(&layer.secrets, |rule| rule.matches(name, header, &target))
        })?;
        Ok(Permit::new(SecretUse { name, header, url }))
    }

    /// Names of the secrets for which the guest gets a handle: those that every layer agrees with the author on somewhere. Where a value
    /// may go is asked for each request, of [`Ambit::secret`].
    pub fn secret_names(&self) -> BTreeSet<&str> {
        let agrees = |layer: &Permissions, asked: &Rule<SecretRule>| {
            any(&layer.secrets, |rule| rule.overlaps(&asked.pattern))
        };
        let author = self.layers.first().map(|(_, author)| &author.secrets);
        author
            .into_iter()
            .flatten()
            .filter(|asked| self.layers.iter().all(|(_, layer)| agrees(layer, asked)))
            .filter(|asked| {
                let held = self.bearer.iter().flat_map(|bearer| bearer.layers());
                held.into_iter().all(|layer| agrees(layer, asked))
            })
            .map(|asked| asked.pattern.name())
            .collect()
    }

    fn stands(&self) -> Result<(), TokenError> {
        self.bearer
            .as_ref()
            .map_or(Ok(()), |bearer| bearer.stands())
    }

    fn every_layer(
        &self,
        class: Class,
        asked: impl Fn() -> String,
        mut allows: impl FnMut(&Permissions) -> bool,
    ) -> Result<(), Denied> {
        let mut layers = self.layers.iter();
        let refused = layers.find(|(_, permissions)| !allows(permissions));
        let refusal = match (refused, &self.bearer) {
            (Some((layer, _)), _) => Some(Refusal::NotCovered(*layer)),
            (None, Some(bearer)) => bearer.check(&asked, &mut allows).err(),
            (None, None) => None,
        };
        match refusal {
            None => Ok(()),
            Some(refusal) => Err(Denied {
                class,
                asked: asked(),
                refusal,
            }),
        }
    }
}

fn any<P>(rules: &[Rule<P>], matches: impl Fn(&P) -> bool) -> bool {
    rules.iter().any(|rule| matches(&rule.pattern))
}

/// Origin and path: the query may hold what is nobody's business.
fn show_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or("-");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}{}", url.scheme(), url.path()),
        None => format!("{}://{host}{}", url.scheme(), url.path()),
    }
}

/// Visits each request of the author with its class, its text, whether it is optional and whether some grant overlaps it.
pub(crate) fn for_each_request(
    author: &Permissions,
    operator: &Permissions,
    mut visit: impl FnMut(Class, &dyn fmt::Display, bool, bool),
) {
    macro_rules! visit_class {
        ($($class:ident $field:ident)*) => {$(
            for asked in &author.$field {
                let granted = any(&operator.$field, |rule| rule.overlaps(&asked.pattern));
                visit(Class::$class, &asked.pattern, asked.optional, granted);
            }
        )*};
    }
    visit_class! { Http http Models models Collections collections KeyValue keyvalue Config config Secrets secrets }
}
