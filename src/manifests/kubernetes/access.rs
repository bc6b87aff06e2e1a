//! Where the API is and who we are to it: a kubeconfig, or the pod's service account.
//!
//! Must not know: what is asked of the API.

use std::path::PathBuf;

use kube::config::{
    Config as Access, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError,
};

use super::{Config, api};

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig that cannot be used.
    #[error("cannot use {place}: {why}{advice}")]
    Kubeconfig {
        /// The file, or where it was looked for.
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
    /// Certificates or headers that cannot be used.
    #[error("cannot use the credentials for the Kubernetes API")]
    Credentials(#[source] Box<kube::Error>),
    /// What is not supported.
    #[error(
        "the kubeconfig asks for a proxy ({0}), which is not supported: reach the API directly"
    )]
    Proxy(String),
    /// No thread to read it with.
    #[error("cannot read the kubeconfig")]
    Runtime(#[from] std::io::Error),
}

/// Finds them. Inside a pod its service account is used unless a kubeconfig is named.
pub(super) fn find(config: &Config) -> Result<Access, AccessError> {
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let access = match &config.kubeconfig {
        None if in_pod && config.context.is_none() => {
            Access::incluster().map_err(AccessError::ServiceAccount)?
        }
        file => from_file(file.as_ref(), config.context.clone())?,
    };
    match &access.proxy_url {
        Some(proxy) => Err(AccessError::Proxy(proxy.to_string())),
        None => Ok(access),
    }
}

fn from_file(file: Option<&PathBuf>, context: Option<String>) -> Result<Access, AccessError> {
    let place = match file {
        Some(file) => format!("the kubeconfig {}", file.display()),
        None => "$KUBECONFIG or ~/.kube/config".to_owned(),
    };
    let failed = |error: KubeconfigError| {
        let advice = advice(&error);
        // Its errors repeat what is behind them.
        let why = api::told(&error);
        AccessError::Kubeconfig { place, why, advice }
    };
    let read = match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    // kube reads it in an async function, which waits for nothing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let access =
        read.and_then(|read| runtime.block_on(Access::from_custom_kubeconfig(read, &options)));
    access.map_err(failed)
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
            (Ok(access), Ok(url)) => assert_eq!(access.cluster_url.to_string(), url),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
            }
            (found, expected) => panic!("{context:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_context_is_found_or_the_file_is_named() {
        check(None, Ok("https://127.0.0.1:1/"));
        check(Some("a"), Ok("https://127.0.0.1:1/"));
        check(Some("b"), Err("failed to load current context: b: name a context that it has"));
        check(Some("proxied"), Err("asks for a proxy (http://proxy:3128/)"));
        let config = Config { kubeconfig: Some("/no/such/file".into()), ..Config::default() };
        let error = find(&config).expect_err("no file").to_string();
        let place = "cannot use the kubeconfig /no/such/file: ";
        assert!(error.starts_with(place) && error.ends_with("that can be read"), "{error}");
        assert_eq!(error.matches("No such file").count(), 1, "{error}");
    }
}
