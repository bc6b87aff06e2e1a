//! The command line as it is typed. Must not know: what commands do.

use clap::{CommandFactory, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
}

fn gateway(line: &str) -> Result<Settings, SettingsError> {
    let Ok(Command::Gateway(args)) = parse(line) else { panic!("{line} is a gateway") };
    Settings::load(&args.sources(Sources::default())?)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_become_settings_and_win_over_set() {
    let settings = gateway(
        "diolkos gateway --set gateway.workers=3 --workers 2 --listen 127.0.0.1:0 \
         --listen [::1]:0 --manifests a,b --manifests c --admin off --health 127.0.0.1:1 \
         --metrics 127.0.0.1:2 --set relay.splice=false --set agent.listen=off",
    )
    .expect("valid");
    assert_eq!(settings.gateway.workers, 2);
    let listen = ["127.0.0.1:0", "[::1]:0"].map(|a| a.parse().expect("address"));
    assert_eq!(settings.gateway.listen, listen);
    assert_eq!(settings.manifests.directories, ["a,b", "c"].map(PathBuf::from));
    assert_eq!((settings.admin.listen, settings.agent.listen), (Listen::Off, Listen::Off));
    assert_eq!(settings.health.listen.to_string(), "127.0.0.1:1");
    assert_eq!(settings.metrics.listen.to_string(), "127.0.0.1:2");
    assert!(!settings.relay.splice);
    assert_eq!(gateway("diolkos gateway").expect("valid"), Settings::default());
}

#[test]
fn a_wrong_flag_is_usage_and_a_wrong_file_is_failure() {
    let usage = |line| gateway(line).expect_err(line).is_usage();
    assert!(usage("diolkos gateway --set gateway.worker=3"));
    assert!(usage("diolkos gateway --set workers"));
    assert!(usage("diolkos gateway --workers 5000"));
    assert!(!usage("diolkos gateway --config /nowhere/x.yaml"));
    let code = exit_code(&anyhow::anyhow!("other"));
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)));
}

#[test]
fn arguments_that_cannot_be_read_end_with_2() {
    for line in [
        "diolkos",
        "diolkos nonsense",
        "diolkos gateway --listen 15443",
        "diolkos gateway --admin no",
        "diolkos gateway --workers two",
        "diolkos gateway extra",
        "diolkos explain",
        "diolkos explain a.b",
        "diolkos explain a.b --manifests a --admin 127.0.0.1:1",
        "diolkos explain a.b --manifests a --source here",
        "diolkos demo --twice",
        "diolkos demo --scene nothing",
        "diolkos demo --against nobody",
        "diolkos demo --envoy a",
        "diolkos demo --against envoy --once",
        "diolkos demo --against envoy --listen 127.0.0.1:0",
        "diolkos demo --against envoy --services 1",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    for (line, kind) in [
        ("diolkos --help", ErrorKind::DisplayHelp),
        ("diolkos gateway --help", ErrorKind::DisplayHelp),
        ("diolkos --version", ErrorKind::DisplayVersion),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{line}");
    }
}

#[test]
fn an_explanation_is_asked_as_a_sidecar_would() {
    let explain = |line| match parse(line) {
        Ok(Command::Explain(args)) => args,
        other => panic!("{line}: {other:?}"),
    };
    let asked = explain("diolkos explain a.b --manifests m");
    assert_eq!(asked.alpn, ["istio-peer-exchange", "istio"]);
    let settings =
        Settings::load(&asked.sources(Sources::default()).expect("valid")).expect("valid");
    assert_eq!(settings.manifests.directories, [PathBuf::from("m")]);
    let asked = explain("diolkos explain a.b --admin [::1]:9 --alpn h2,istio --source ::1");
    assert_eq!(asked.offered(), ["h2", "istio"]);
    assert_eq!(asked.source, Some("::1".parse().expect("address")));
}

#[test]
fn an_empty_alpn_offers_none() {
    let line = ["diolkos", "explain", "a.b", "--admin", "[::1]:9", "--alpn", ""];
    let Ok(Command::Explain(args)) = Cli::try_parse_from(line).map(|cli| cli.command) else {
        panic!("explain")
    };
    assert!(args.offered().is_empty());
}

#[test]
fn the_demo_listens_where_the_readme_says() {
    let Ok(Command::Demo(args)) = parse("diolkos demo --once --keep d") else { panic!() };
    assert_eq!(args.listen, "127.0.0.1:15443".parse().expect("address"));
    assert!(args.once && args.keep == Some("d".into()));
}

#[test]
fn every_argument_has_help_and_every_example_can_be_typed() {
    let mut root = Cli::command();
    root.build();
    for command in root.get_subcommands().filter(|c| c.get_name() != "help") {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument);
        }
    }
    let pages = std::iter::once(&root).chain(root.get_subcommands());
    let mut examples = 0;
    for page in pages.filter(|page| page.get_name() != "help") {
        let text = page.get_after_long_help().expect("examples").to_string();
        // A shell joins a line that ends in a backslash to the next.
        let text = text.replace("\\\n", "");
        for line in text.lines().filter(|line| line.starts_with("  diolkos ")) {
            let line = line.split(" > ").next().expect("a command");
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            examples += 1;
        }
    }
    assert!(examples >= 12, "{examples} examples");
}

#[test]
fn defaults_in_help_are_the_defaults() {
    let settings = Settings::default();
    let help = Cli::command()
        .find_subcommand_mut("gateway")
        .expect("a command")
        .render_long_help()
        .to_string();
    for (flag, default) in [
        ("--listen", settings.gateway.listen[0].to_string()),
        ("--admin", settings.admin.listen.to_string()),
        ("--health", settings.health.listen.to_string()),
        ("--metrics", settings.metrics.listen.to_string()),
        ("--workers", settings.gateway.workers.to_string()),
    ] {
        let from = help.find(flag).expect(flag);
        let text = help[from..].lines().nth(1).expect("its help");
        assert!(text.ends_with(&format!("[default: {default}]")), "{flag}: {text}");
    }
}

#[test]
fn config_from_reads_this_process() {
    let args = GatewayArgs { workers: Some(7), ..GatewayArgs::default() };
    assert_eq!(config_from(&args).expect("valid").gateway.workers, 7);
}
