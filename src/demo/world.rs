//! Three clusters on loopback: certificates, manifests, and a process for each part of diolkos in
//! them, started as any user would.
//!
//! Must not know: what is called.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;

use super::{
    application::{self, Application},
    caller::Caller,
    places::{self, Gateway, MANIFESTS, PODS, Pod},
    probe::is_ready,
    process::Process,
    rival,
    witness::Witness,
};
use crate::certs::{Authority, Existing, Leaf, SpiffeId};

/// A part that is not ready after this does not come up.
const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a sidecar tells whether it is ready, as Istio's agent does.
const STATUS_PORT: u16 = 15020;

/// Everything at work. Ends when dropped.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    clusters: BTreeMap<&'static str, Authority>,
    processes: BTreeMap<&'static str, Process>,
    applications: BTreeMap<&'static str, Application>,
    /// The client of cluster 1.
    pub caller: Caller,
}

impl World {
    /// Writes certificates and manifests below `dir` and starts everything.
    ///
    /// # Errors
    /// What does not come up, with the last words of its log.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let root = Authority::root(now)?;
        root.write(&dir.join("certs/root"))?;
        let mut clusters = BTreeMap::new();
        for cluster in ["cluster1", "cluster2", "cluster3"] {
            let authority = root.cluster(cluster, now)?;
            authority.write(&dir.join("certs").join(cluster))?;
            clusters.insert(cluster, authority);
        }
        for made in ["logs", "cluster1/imported"] {
            let made = dir.join(made);
            fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let caller = Caller::new(places::DNS)?;
        let mut world = Self {
            dir: dir.to_owned(),
            clusters,
            processes: BTreeMap::new(),
            applications: BTreeMap::new(),
            caller,
        };
        for (cluster, name, text) in MANIFESTS {
            world.write_manifest(cluster, name, text)?;
        }
        for pod in &PODS {
            world.start_pod(pod).await?;
        }
        for gateway in [&places::STABLE, &places::BETA, &places::THIRD, &places::EGRESS] {
            world.start_gateway(gateway).await?;
        }
        world.start_export().await?;
        world.start_dns().await?;
        world.certify("sleep", "cluster1", "ns1", "sleep")?;
        world.start_caller_sidecar("sleep", &[]).await?;
        Ok(world)
    }

    /// Where everything is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a manifest of a cluster whole, so that no half of it is ever read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, cluster: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let directory = self.manifests(cluster);
        fs::create_dir_all(&directory)?;
        let (path, hidden) = (directory.join(name), directory.join(format!(".{name}")));
        let written = fs::write(&hidden, text).and_then(|()| fs::rename(&hidden, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The access log of a gateway, from its beginning.
    #[must_use]
    pub fn witness(&self, gateway: &Gateway) -> Witness {
        Witness::new(self.access_log(gateway))
    }

    /// The lines of a process's log that hold this.
    #[must_use]
    pub fn log_lines(&self, process: &str, part: &str) -> Vec<String> {
        self.processes.get(process).map(|p| p.lines_with(part)).unwrap_or_default()
    }

    /// A certificate of a cluster's authority, in a directory of this name, as a sidecar takes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn certify(
        &self,
        name: &str,
        cluster: &str,
        namespace: &str,
        account: &str,
    ) -> anyhow::Result<()> {
        let Some(authority) = self.clusters.get(cluster) else { bail!("there is no {cluster}") };
        let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        let leaf = authority.workload(&SpiffeId::parse(&id)?, SystemTime::now())?;
        self.write_certificate(name, &leaf)
    }

    /// Writes a certificate to a directory of this name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_certificate(&self, name: &str, leaf: &Leaf) -> anyhow::Result<()> {
        Ok(leaf.write_over(&self.workload(name), Existing::Replace)?)
    }

    /// The directory of a workload's certificate.
    #[must_use]
    pub fn workload(&self, name: &str) -> PathBuf {
        self.dir.join("workloads").join(name)
    }

    /// Starts an application and the sidecar in front of it.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_pod(&mut self, pod: &Pod) -> anyhow::Result<()> {
        let taken =
            || format!("{}:{} or :{} is taken", pod.ip, application::HTTP, application::TCP);
        let app = Application::start(pod.name, pod.ip).await.with_context(taken)?;
        self.applications.insert(pod.name, app);
        self.certify(pod.name, pod.cluster, "ns2", pod.account)?;
        let mut arguments = words(&["sidecar", "--certs"]);
        arguments.push(path(&self.workload(pod.name)));
        for port in [application::HTTP, application::TCP] {
            let inbound = format!("{ip}:{}={ip}:{port}", sidecar_port(port), ip = pod.ip);
            arguments.extend(["--inbound".to_owned(), inbound]);
        }
        self.start_sidecar(pod.name, arguments, pod.ip).await
    }

    /// Ends a pod as a crash of its host would: nobody is told.
    pub fn kill_pod(&mut self, pod: &Pod) {
        self.applications.remove(pod.name);
        self.kill(pod.name);
    }

    /// Starts a gateway.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_gateway(&mut self, gateway: &Gateway) -> anyhow::Result<()> {
        let mut arguments = words(&["gateway", "--listen"]);
        arguments.push(gateway.address().to_string());
        arguments.extend(self.manifest_flags(gateway.cluster));
        arguments.extend(words(&["--workers", "1", "--admin", "off", "--health", "off"]));
        arguments.extend(words(&["--metrics", "off", "--set", "agent.listen=off"]));
        arguments.extend(words(&["--set", "access_log.format=json", "--set"]));
        arguments.push(format!("access_log.path={}", self.access_log(gateway).display()));
        if gateway.is_egress {
            arguments.extend(words(&["--set", "gateway.role=egress"]));
            arguments.extend(words(&["--set", "gateway.labels={istio: egressgateway}"]));
            arguments.extend(words(&["--set", "gateway.requested_network_view=[external]"]));
        }
        self.start_process(gateway.name, arguments, Some(gateway.address())).await
    }

    /// Starts Envoy beside the gateways of cluster 2, for `bar` over HTTP, and gives its log.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_envoy(&mut self, program: &Path) -> anyhow::Result<Witness> {
        let pods = PODS.iter().filter(|pod| pod.account == "bar");
        let port = sidecar_port(application::HTTP);
        let pods: Vec<_> = pods.map(|pod| SocketAddr::from((pod.ip, port))).collect();
        let name = format!("outbound_.{}_._.bar.ns2.global", application::HTTP);
        let log = self.dir.join("logs/envoy.access.json");
        let config = rival::config(places::ENVOY, &name, &pods, &log).to_string();
        let file = self.dir.join("cluster2/envoy.json");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut arguments = words(&["--concurrency", "1", "--disable-hot-restart"]);
        arguments.extend(words(&["--file-flush-interval-msec", "50", "-l", "warning", "-c"]));
        arguments.push(path(&file));
        let logs = self.dir.join("logs");
        let process = Process::other(&logs, places::ENVOY_NAME, program, &arguments)?;
        self.processes.insert(places::ENVOY_NAME, process);
        let is_up = async || TcpStream::connect(places::ENVOY).await.is_ok();
        self.wait(places::ENVOY_NAME, is_up).await?;
        Ok(Witness::new(log))
    }

    /// Ends a process as a crash would.
    pub fn kill(&mut self, process: &str) {
        if let Some(process) = self.processes.remove(process) {
            process.kill();
        }
    }

    /// Starts, or starts anew, the caller's sidecar with the certificate of this directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_caller_sidecar(
        &mut self,
        certificate: &str,
        more: &[&str],
    ) -> anyhow::Result<()> {
        if let Some(running) = self.processes.remove("sidecar-sleep") {
            running.stop().await;
        }
        let mut arguments = words(&["sidecar", "--certs"]);
        arguments.push(path(&self.workload(certificate)));
        arguments.extend(self.manifest_flags("cluster1"));
        arguments.extend(words(more));
        self.start_sidecar("sidecar-sleep", arguments, places::SLEEP_IP).await
    }

    /// Asks a sidecar itself whether it is ready: a connection to try it would go all the way.
    async fn start_sidecar(
        &mut self,
        name: &'static str,
        mut arguments: Vec<String>,
        ip: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let status = (ip, STATUS_PORT).into();
        arguments.extend(["--status".to_owned(), SocketAddr::to_string(&status)]);
        self.start_process(name, arguments, None).await?;
        self.wait(name, async || is_ready(status).await).await
    }

    /// The automation: what clusters 2 and 3 serve, written as cluster 1 needs it, for as long as
    /// it runs.
    async fn start_export(&mut self) -> anyhow::Result<()> {
        let cluster = |name: &str| format!("{name}={}", path(&self.manifests(name)));
        let far =
            |name, gateway: &Gateway| format!("{},gateway={}", cluster(name), gateway.address());
        let mut arguments = words(&["export", "--for", "cluster1", "--watch"]);
        for cluster in
            [cluster("cluster1"), far("cluster2", &places::STABLE), far("cluster3", &places::THIRD)]
        {
            arguments.extend(["--cluster".to_owned(), cluster]);
        }
        // The pods are on loopback, which a gateway serves only when it listens there itself.
        arguments.extend(words(&["--set", "gateway.listen=127.2.0.1:15443", "--addresses"]));
        arguments.push(path(&self.dir.join("cluster1/addresses.txt")));
        let imported = self.dir.join("cluster1/imported");
        arguments.extend(["--to-dir".to_owned(), path(&imported)]);
        self.start_process("export", arguments, None).await?;
        let written = async || fs::read_dir(&imported).is_ok_and(|files| files.count() > 0);
        self.wait("export", written).await
    }

    async fn start_dns(&mut self) -> anyhow::Result<()> {
        let mut arguments = words(&["dns", "--listen"]);
        arguments.push(places::DNS.to_string());
        arguments.extend(self.manifest_flags("cluster1"));
        self.start_process("dns", arguments, Some(places::DNS)).await?;
        let caller = Caller::new(places::DNS)?;
        self.wait("dns", async || caller.resolve("shop.ns2.global").await.is_ok()).await
    }

    /// Starts a process and, where an address is given, waits until it accepts connections there.
    async fn start_process(
        &mut self,
        name: &'static str,
        arguments: Vec<String>,
        address: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        let process = Process::start(&self.dir.join("logs"), name, &arguments)?;
        self.processes.insert(name, process);
        let Some(address) = address else { return Ok(()) };
        self.wait(name, async || TcpStream::connect(address).await.is_ok()).await
    }

    async fn wait(
        &mut self,
        name: &str,
        is_ready: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<()> {
        let Some(process) = self.processes.get_mut(name) else { bail!("{name} is not running") };
        process.ready(READY_TIMEOUT, is_ready).await
    }

    fn manifests(&self, cluster: &str) -> PathBuf {
        self.dir.join(cluster).join("manifests")
    }

    /// Cluster 1 also reads what is written for it.
    fn manifest_flags(&self, cluster: &str) -> Vec<String> {
        let mut directories = vec![self.manifests(cluster)];
        if cluster == "cluster1" {
            directories.push(self.dir.join("cluster1/imported"));
        }
        directories.iter().flat_map(|dir| ["--manifests".to_owned(), path(dir)]).collect()
    }

    fn access_log(&self, gateway: &Gateway) -> PathBuf {
        self.dir.join("logs").join(format!("{}.access.json", gateway.name))
    }
}

/// Looks whether every address that the demo needs is free.
///
/// # Errors
/// Names the first that is not.
pub fn addresses_are_free() -> anyhow::Result<()> {
    let ports = [application::HTTP, application::TCP];
    let pods = PODS.iter().chain([&places::BAZ_POD]).map(|pod| pod.ip);
    let of_pods = pods.flat_map(|ip| {
        let sidecar = ports.map(sidecar_port);
        ports.into_iter().chain(sidecar).chain([STATUS_PORT]).map(move |port| (ip, port).into())
    });
    let gateways = [places::STABLE, places::BETA, places::THIRD, places::EGRESS];
    let others = gateways.map(|gateway| gateway.address()).into_iter().chain([
        places::DNS,
        places::ENVOY,
        (places::SLEEP_IP, STATUS_PORT).into(),
        (places::BAR_ADDRESS, application::HTTP).into(),
        (places::BAR_ADDRESS, application::TCP).into(),
    ]);
    for address in others.chain(of_pods) {
        is_free(address)?;
    }
    Ok(())
}

/// Looks whether an address that the demo needs is free.
///
/// # Errors
/// Names it, and how to find who has it.
pub fn is_free(address: SocketAddr) -> anyhow::Result<()> {
    std::net::TcpListener::bind(address).map(drop).with_context(|| {
        let port = address.port();
        format!(
            "{address} is not free, and the demo needs it: is another demo running? \
             `ss -ltnp sport = :{port}` names the process that has it"
        )
    })
}

/// The port of a pod's sidecar in front of a port of its application.
fn sidecar_port(port: u16) -> u16 {
    port + 10_000
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_comes_with_how_to_find_who_has_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let said = is_free(address).unwrap_err().to_string();
        let find = format!("`ss -ltnp sport = :{}`", address.port());
        assert!(said.starts_with(&address.to_string()) && said.contains(&find), "{said}");
        drop(taken);
        is_free(address).unwrap();
    }
}
