//! Where the API is and who we are to it: a kubeconfig, or the pod's service account.
//!
//! Must not know: what is asked of the API.

use std::{env, path::Path};

use kube::{
    client::AuthError,
    config::{Config as Access, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{Config, api};

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig that cannot be used.
    #[error("cannot use {place}: {why}{advice}")]
    Kubeconfig {
        /// The file, and where it was named.
        place: String,
        /// What is wrong with it.
        why: String,
        /// What to do, where that is known.
        advice: &'static str,
    },
    /// A pod without a usable service account.
    #[error(
        "cannot use this pod's service account: let it be mounted \
         (automountServiceAccountToken), or name a kubeconfig"
    )]
    ServiceAccount(#[source] InClusterError),
    /// Certificates or headers that cannot be used, or a command that does not give any.
    #[error("cannot use the credentials of {place}: {why}")]
    Credentials {
        /// The file, its context and user.
        place: String,
        /// What is wrong with them.
        why: String,
    },
    /// What is not supported.
    #[error(
        "the kubeconfig asks for a proxy ({0}), which is not supported: reach the API directly"
    )]
    Proxy(String),
    /// No thread to read it with.
    #[error("cannot read the kubeconfig")]
    Runtime(#[from] std::io::Error),
}

/// Where the API is and who we are to it.
pub(super) struct Found {
    pub(super) access: Access,
    /// What said so: the kubeconfig and its context, or the pod's service account.
    pub(super) whence: String,
    pub(super) user: Option<String>,
}

/// Finds them. Inside a pod its service account is used unless a kubeconfig is named.
pub(super) fn find(config: &Config) -> Result<Found, AccessError> {
    let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let found = match &config.kubeconfig {
        None if in_pod && config.context.is_none() => {
            let access = Access::incluster().map_err(AccessError::ServiceAccount)?;
            Found { access, whence: "this pod's service account".to_owned(), user: None }
        }
        file => from_file(file.as_deref(), config.context.clone())?,
    };
    match &found.access.proxy_url {
        Some(proxy) => Err(AccessError::Proxy(proxy.to_string())),
        None => Ok(found),
    }
}

impl Found {
    /// Why its credentials cannot be used. What a command says on its standard output may be a
    /// token, and is not shown.
    pub(super) fn unusable(&self, error: &kube::Error) -> AccessError {
        let why = match error {
            kube::Error::Auth(AuthError::AuthExecRun { status, out, .. }) => {
                let said = api::shown(String::from_utf8_lossy(&out.stderr).trim());
                let said = if said.is_empty() { said } else { format!(": {said}") };
                format!("it ended with {status}{said}")
            }
            kube::Error::Auth(error) => api::told(error),
            error => api::told(error),
        };
        let user = self.user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
        let command = self.access.auth_info.exec.as_ref();
        let command = command.and_then(|exec| exec.command.as_ref());
        let why = match command {
            Some(command) if matches!(error, kube::Error::Auth(_)) => {
                format!("command {command}: {why}")
            }
            _ => why,
        };
        AccessError::Credentials { place: format!("{}{user}", self.whence), why }
    }
}

fn from_file(file: Option<&Path>, context: Option<String>) -> Result<Found, AccessError> {
    let place = place(file);
    let failed = |error: KubeconfigError| {
        let advice = advice(&error);
        let (place, why) = match &error {
            KubeconfigError::ReadConfig(error, path) if file.is_none() => {
                (format!("the kubeconfig {} ({})", path.display(), usual()), error.to_string())
            }
            KubeconfigError::ReadConfig(error, _) => (place.clone(), error.to_string()),
            // Its errors repeat what is behind them, and paths stand in two kinds of quotes.
            error => (place.clone(), api::told(error).replace("'\"", "").replace("\"'", "")),
        };
        AccessError::Kubeconfig { place, why, advice }
    };
    let read = match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let read = read.map_err(failed)?;
    let context = context.or_else(|| read.current_context.clone());
    let named = read.contexts.iter().find(|named| Some(&named.name) == context.as_ref());
    let of_context = named.and_then(|named| named.context.as_ref());
    let user = of_context.and_then(|of| of.user.clone()).filter(|user| !user.is_empty());
    let cluster = of_context.and_then(|of| read.clusters.iter().find(|c| c.name == of.cluster));
    let authority = cluster.and_then(|named| named.cluster.as_ref()?.certificate_authority.clone());
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    // kube reads it in an async function, which waits for nothing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let access =
        runtime.block_on(Access::from_custom_kubeconfig(read, &options)).map_err(failed)?;
    if access.root_cert.as_ref().is_some_and(Vec::is_empty) {
        let authority = authority.map(|file| format!("certificate-authority {file}"));
        let authority = authority.unwrap_or_else(|| "certificate-authority-data".to_owned());
        let why = format!("{authority} holds no certificate");
        return Err(AccessError::Kubeconfig { place, why, advice: "" });
    }
    let context = context.map(|context| format!(", context {context}")).unwrap_or_default();
    Ok(Found { access, whence: format!("{place}{context}"), user })
}

/// Which of the usual places is looked at.
fn usual() -> &'static str {
    let listed = env::var_os("KUBECONFIG").is_some_and(|list| !list.is_empty());
    if listed { "$KUBECONFIG" } else { "~/.kube/config" }
}

/// The file, or which of the usual places is looked at.
fn place(file: Option<&Path>) -> String {
    let listed = env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    match (file, listed) {
        (Some(file), _) => format!("the kubeconfig {}", file.display()),
        (None, Some(list)) => format!("$KUBECONFIG ({})", list.to_string_lossy()),
        (None, None) => "~/.kube/config".to_owned(),
    }
}

fn advice(error: &KubeconfigError) -> &'static str {
    use KubeconfigError as E;
    match error {
        E::ReadConfig(..) | E::FindPath => ": name a kubeconfig file that can be read",
        E::CurrentContextNotSet => ": name a context, or give it a current-context",
        E::LoadContext(_) => ": name a context that it has",
        E::LoadClusterOfContext(_) => ": it lacks the cluster that its context names",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: a
clusters:
- {name: a, cluster: {server: 'https://127.0.0.1:1'}}
- {name: proxied, cluster: {server: 'https://127.0.0.1:2', proxy-url: 'http://proxy:3128'}}
users:
- {name: a, user: {token: secret}}
contexts:
- {name: a, context: {cluster: a, user: a}}
- {name: proxied, context: {cluster: proxied, user: a}}
";

    fn check(context: Option<&str>, expected: Result<&str, &str>) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("kubeconfig");
        std::fs::write(&file, KUBECONFIG).expect("written");
        let config = Config {
            kubeconfig: Some(file),
            context: context.map(Into::into),
            ..Config::default()
        };
        match (find(&config), expected) {
            (Ok(found), Ok(url)) => assert_eq!(found.access.cluster_url.to_string(), url),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
            }
            (Ok(found), Err(part)) => panic!("{context:?}: {}, expected {part}", found.whence),
            (Err(error), Ok(url)) => panic!("{context:?}: {error}, expected {url}"),
        }
    }

    /// What is wrong with the kubeconfig of this cluster and this user.
    fn refused(cluster: &str, user: &str) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("kubeconfig");
        std::fs::write(directory.path().join("ca.pem"), "no certificate\n").expect("written");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: x, \
             clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}], \
             users: [{{name: u, user: {{{user}}}}}], \
             contexts: [{{name: x, context: {{cluster: a, user: u}}}}]}}"
        );
        std::fs::write(&file, text).expect("written");
        let config = Config { kubeconfig: Some(file), ..Config::default() };
        let opened = super::super::Client::open(&config).map(drop);
        let error = anyhow::Error::new(opened.expect_err("unusable"));
        format!("{error:#}").replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn an_authority_without_a_certificate_is_told() {
        let start = "cannot use the kubeconfig kubeconfig: certificate-authority";
        let file = refused(", certificate-authority: ca.pem", "");
        assert_eq!(file, format!("{start} ca.pem holds no certificate"));
        let data = refused(", certificate-authority-data: bm9uZQo=", "");
        assert_eq!(data, format!("{start}-data holds no certificate"));
        let absent = refused(", certificate-authority: no.pem", "");
        assert!(absent.contains("failed to read file no.pem: No such file"), "{absent}");
    }

    #[test]
    fn a_command_that_gives_no_credentials_is_named_once() {
        let exec = |more: &str| {
            let api = "apiVersion: client.authentication.k8s.io/v1";
            refused("", &format!("exec: {{{api}, interactiveMode: Never, {more}}}"))
        };
        let start = "cannot use the credentials of the kubeconfig kubeconfig, context x, user u: ";
        let absent = exec("command: /no/such/command");
        let why = "command /no/such/command: unable to run auth exec: No such file or directory";
        assert_eq!(absent, format!("{start}{why} (os error 2)"));
        let failing = exec("command: sh, args: [-c, 'echo secret; echo why >&2; exit 3']");
        assert_eq!(failing, format!("{start}command sh: it ended with exit status: 3: why"));
    }

    #[test]
    fn a_context_is_found_or_the_file_is_named() {
        check(None, Ok("https://127.0.0.1:1/"));
        check(Some("a"), Ok("https://127.0.0.1:1/"));
        check(Some("b"), Err("failed to load current context: b: name a context that it has"));
        check(Some("proxied"), Err("asks for a proxy (http://proxy:3128/)"));
        let config = Config { kubeconfig: Some("/no/such/file".into()), ..Config::default() };
        let error = find(&config).err().expect("no file").to_string();
        let place = "cannot use the kubeconfig /no/such/file: ";
        assert!(error.starts_with(place) && error.ends_with("that can be read"), "{error}");
        assert_eq!(error.matches("No such file").count(), 1, "{error}");
    }
}
