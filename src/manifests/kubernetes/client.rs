//! Reads and changes objects of one cluster, for who writes there.
//!
//! Must not know: what the objects mean, when to try again.

use hyper::{Method, Request, StatusCode};
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AccessError, Config, access,
    api::{Api, Trouble, answered, shown},
};

/// Objects of one answer.
const PAGE: usize = 500;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// JSON is YAML; the API has no other name for it.
const APPLY: &str = "application/apply-patch+yaml";

/// The API of one cluster.
#[derive(Clone, Debug)]
pub struct Client {
    api: Api,
    server: String,
}

/// Why the API did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fields are managed by somebody else, as the API says here.
    #[error("{0}")]
    Managed(String),
    /// The object is not as it was when it was read, or it is there already.
    #[error("it was changed meanwhile")]
    Changed,
    /// What was asked for is not there.
    #[error("{0}")]
    Absent(Missing),
    /// The object is not one that the API takes.
    #[error("{0}")]
    Unfit(String),
    /// We may not.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// There is no answer, or none that helps.
    #[error("{0}")]
    Away(String),
}

/// What is not there, where something is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The object itself.
    #[error("there is no such object")]
    Object,
    /// The namespace that it would be in.
    #[error("there is no such namespace: create it first")]
    Namespace,
    /// The kind: its CustomResourceDefinition is missing.
    #[error(
        "the API has no such kind: is Istio, or its CustomResourceDefinitions, installed there?"
    )]
    Kind,
}

/// What the API says when it says no.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    kind: String,
    name: String,
    causes: Vec<Cause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

impl Client {
    /// Reads credentials. The API is not asked yet.
    ///
    /// # Errors
    /// Credentials that cannot be read.
    pub fn open(config: &Config) -> Result<Self, AccessError> {
        let found = access::find(config)?;
        Ok(Self { api: Api::new(&found)?, server: found.access.cluster_url.to_string() })
    }

    /// The address of the API.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Every object at a path, such as `/api/v1/namespaces/a/configmaps`.
    ///
    /// # Errors
    /// When the API does not give them all.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, Refusal> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let from = next.map(|token: String| format!("&continue={token}")).unwrap_or_default();
            let query = format!("{path}?limit={PAGE}{from}");
            let page: Page = read(&self.ask(Method::GET, &query, JSON, None).await?)?;
            all.extend(page.items.into_iter().flatten());
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// The object at a path, if it is there.
    ///
    /// # Errors
    /// When the API does not tell.
    pub async fn read(&self, path: &str) -> Result<Option<Value>, Refusal> {
        match self.ask(Method::GET, path, JSON, None).await {
            Ok(bytes) => read(&bytes).map(Some),
            Err(Refusal::Absent(Missing::Object | Missing::Namespace)) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Creates or changes the object at a path by server-side apply, without force: fields of other
    /// managers are never taken. Gives the object as it is then. With `dry_run` nothing is written.
    ///
    /// # Errors
    /// [`Refusal::Managed`] for such fields; [`Refusal::Changed`] where the object names a version
    /// that is not the present one.
    pub async fn apply(
        &self,
        path: &str,
        object: &Value,
        manager: &str,
        dry_run: bool,
    ) -> Result<Value, Refusal> {
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{path}?fieldManager={manager}&force=false{dry_run}");
        read(&self.ask(Method::PATCH, &path, APPLY, Some(object)).await?)
    }

    /// Creates an object among those of a path.
    ///
    /// # Errors
    /// [`Refusal::Changed`] when it is there already.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        read(&self.ask(Method::POST, path, JSON, Some(object)).await?)
    }

    /// Replaces the object at a path.
    ///
    /// # Errors
    /// [`Refusal::Changed`] when it has another version than `object` says.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        read(&self.ask(Method::PUT, path, JSON, Some(object)).await?)
    }

    /// Changes the fields of the object at a path that `patch` has.
    ///
    /// # Errors
    /// When it is not there, or the API does not take it.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Refusal> {
        read(&self.ask(Method::PATCH, path, MERGE, Some(patch)).await?)
    }

    /// Deletes the object at a path, if it is the one that was read and still as it was. With
    /// `dry_run` it stays.
    ///
    /// # Errors
    /// [`Refusal::Changed`] when it is another.
    pub async fn delete(
        &self,
        path: &str,
        (uid, version): (&str, &str),
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let dry_run: &[&str] = if dry_run { &["All"] } else { &[] };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": dry_run,
            "preconditions": {"uid": uid, "resourceVersion": version}});
        self.ask(Method::DELETE, path, JSON, Some(&options)).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Refusal> {
        let away =
            |error: &(dyn std::error::Error + 'static)| Refusal::from(Trouble::of_error(error));
        let request = Request::builder().method(method).uri(path).header("accept", JSON);
        let body = body.map(|body| Body::from(body.to_string().into_bytes()));
        let request = match body {
            Some(body) => request.header("content-type", content).body(body),
            None => request.body(Body::empty()),
        };
        let (code, bytes) = self.api.send(request.map_err(|error| away(&error))?).await?;
        if code.is_success() { Ok(bytes) } else { Err(refused(code, &bytes)) }
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Trouble::of_error(&error).into())
}

fn refused(code: StatusCode, body: &[u8]) -> Refusal {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = shown(&status.message);
    let Details { kind, name, causes } = status.details.unwrap_or_default();
    match code.as_u16() {
        404 if kind == "namespaces" => Refusal::Absent(Missing::Namespace),
        // Of a kind that it does not have the API names no object.
        404 if name.is_empty() => Refusal::Absent(Missing::Kind),
        404 => Refusal::Absent(Missing::Object),
        403 => Refusal::Forbidden(message),
        409 if causes.iter().any(|cause| cause.reason == "FieldManagerConflict") => {
            Refusal::Managed(message)
        }
        409 => Refusal::Changed,
        400 | 413 | 422 => Refusal::Unfit(message),
        code => Refusal::Away(answered(code, &status.message)),
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Absent => Self::Absent(Missing::Kind),
            Trouble::Forbidden(why) => Self::Forbidden(why),
            Trouble::Expired => Self::Away("what was asked for is too old".to_owned()),
            Trouble::Hopeless(why) | Trouble::Other(why) => Self::Away(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, body: &Value, expected: &Refusal) {
        let code = StatusCode::from_u16(code).expect("a code");
        assert_eq!(refused(code, body.to_string().as_bytes()), *expected);
    }

    #[test]
    fn a_conflict_of_managers_is_another_than_one_of_versions() {
        let causes = json!([{"reason": "FieldManagerConflict", "field": ".spec.hosts"}]);
        let managed = json!({"message": "conflict\nwith x", "details": {"causes": causes}});
        check(409, &managed, &Refusal::Managed("conflict\\nwith x".into()));
        check(409, &json!({"message": "modified", "details": {}}), &Refusal::Changed);
        check(409, &json!({"message": "modified"}), &Refusal::Changed);
        let absent = |details: Value| json!({"message": "not found", "details": details});
        let namespace = absent(json!({"name": "a", "kind": "namespaces"}));
        check(404, &namespace, &Refusal::Absent(Missing::Namespace));
        let object = absent(json!({"name": "a", "kind": "configmaps"}));
        check(404, &object, &Refusal::Absent(Missing::Object));
        check(404, &absent(json!({})), &Refusal::Absent(Missing::Kind));
        check(404, &json!("404 page not found"), &Refusal::Absent(Missing::Kind));
        check(403, &json!({"message": "no"}), &Refusal::Forbidden("no".into()));
        check(422, &json!({"message": "bad"}), &Refusal::Unfit("bad".into()));
        check(503, &json!("?"), &Refusal::Away("503 Service Unavailable".into()));
    }
}
