// SPDX-License-Identifier: Apache-2.0
//! `create(flags)`: types, order, refusals, and what the native containerizer is told.

use std::cell::RefCell;
use std::sync::Arc;

use berth_conformance::{FakeContainerizer, Site};
use berth_contract::Containerizer;
use berth_factory::{CreateError, Flags, Host, ImageKind, Launcher, Made, Makers, Native, create};
use berth_model::Class;

fn host(launcher: Launcher) -> Host {
    Host { cpus: Ok(1), memory: Ok(1), disk: Ok(1), launcher, nvidia_devices: None }
}

fn made(site: &Site) -> Made {
    Ok(Arc::new(FakeContainerizer::new(site)) as Arc<dyn Containerizer>)
}

/// Everything is built, and writes down that it was made, and of how many the composing one is.
fn makers<'a>(site: &'a Site, log: &'a RefCell<Vec<String>>) -> Makers<'a> {
    let note = move |name: &str| {
        log.borrow_mut().push(name.to_owned());
        made(site)
    };
    Makers {
        mesos: Some(Box::new(move |_, _, _| note("mesos"))),
        docker: Some(Box::new(move |_, _| note("docker"))),
        lxc: Some(Box::new(move |_, _| note("lxc"))),
        external: Some(Box::new(move |_, _| note("external"))),
        composing: Some(Box::new(move |_, children, _| {
            log.borrow_mut().push(format!("composing {}", children.len()));
            Ok(Arc::clone(&children[0]))
        })),
        ..Makers::default()
    }
}

fn order(containerizers: &str) -> Result<Vec<String>, CreateError> {
    let site = Site::new("create").expect("there is a temporary folder");
    let log = RefCell::new(Vec::new());
    let flags = Flags { containerizers: containerizers.to_owned(), ..Flags::default() };
    create(&flags, &host(Launcher::Linux), &makers(&site, &log))?;
    Ok(log.into_inner())
}

fn native(flags: Flags, launcher: Launcher) -> Result<Native, String> {
    let site = Site::new("native").expect("there is a temporary folder");
    let told = RefCell::new(None);
    let makers = Makers {
        mesos: Some(Box::new(|_, native, _| {
            *told.borrow_mut() = Some(native.clone());
            made(&site)
        })),
        ..Makers::default()
    };
    create(&flags, &host(launcher), &makers).map_err(|error| error.fatal())?;
    drop(makers);
    Ok(told.into_inner().expect("the maker was called"))
}

fn images(providers: &str, isolation: &str) -> Flags {
    Flags { image_providers: Some(providers.to_owned()), isolation: isolation.to_owned(), ..Flags::default() }
}

#[test]
fn the_operators_order_is_kept() {
    assert_eq!(order("mesos,docker").unwrap(), ["mesos", "docker", "composing 2"]);
    assert_eq!(
        order("external,mesos,lxc,docker").unwrap(),
        ["external", "mesos", "lxc", "docker", "composing 4"]
    );
}

#[test]
fn one_is_returned_bare() {
    assert_eq!(order("docker").unwrap(), ["docker"]);
}

#[test]
fn wrong_lists_are_refused_in_the_words_of_mesos_before_anything_is_made() {
    let refused = |text: &str| order(text).unwrap_err().to_string();
    assert_eq!(
        refused("mesos,docker,mesos"),
        "Duplicate entries found in --containerizer flag 'mesos,docker,mesos'"
    );
    assert_eq!(refused("mesos,nope"), "Unknown or unsupported containerizer: nope");
    assert_eq!(refused("mesos,"), "Unknown or unsupported containerizer: ");
    assert_eq!(refused(" mesos"), "Unknown or unsupported containerizer:  mesos");
    assert_eq!(refused("composing"), "Unknown or unsupported containerizer: composing");
}

#[test]
fn a_type_that_is_not_built_is_refused_by_its_name() {
    let site = Site::new("built").unwrap();
    let makers = Makers { mesos: Some(Box::new(|_, _, _| made(&site))), ..Makers::default() };
    for (list, name) in
        [("docker", "Docker"), ("lxc", "Lxc"), ("external", "External"), ("mesos,docker", "Docker")]
    {
        let flags = Flags { containerizers: list.to_owned(), ..Flags::default() };
        let error = create(&flags, &host(Launcher::Linux), &makers).unwrap_err();
        assert_eq!(
            error.fatal(),
            format!(
                "Failed to create a containerizer: Could not create {name}Containerizer: \
                 not built into this version of berth"
            )
        );
        assert_eq!(error.class(), Class::Unsupported);
    }
}

#[test]
fn several_without_a_composing_one_are_refused() {
    let site = Site::new("several").unwrap();
    let log = RefCell::new(Vec::new());
    let makers = Makers { composing: None, ..makers(&site, &log) };
    let flags = Flags { containerizers: "mesos,docker".to_owned(), ..Flags::default() };
    let error = create(&flags, &host(Launcher::Linux), &makers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not create ComposingContainerizer: not built into this version of berth"
    );
    drop(makers);
    assert_eq!(log.into_inner(), [""; 0]);
}

#[test]
fn the_makers_failure_is_told_with_its_type() {
    let makers = Makers { docker: Some(Box::new(|_, _| Err("no daemon".into()))), ..Makers::default() };
    let flags = Flags { containerizers: "docker".to_owned(), ..Flags::default() };
    let error = create(&flags, &host(Launcher::Linux), &makers).unwrap_err();
    assert_eq!(
        error.fatal(),
        "Failed to create a containerizer: Could not create DockerContainerizer: no daemon"
    );
}

#[test]
fn isolation_external_is_the_external_containerizer_alone_with_a_warning() {
    let site = Site::new("external").unwrap();
    let log = RefCell::new(Vec::new());
    let makers = makers(&site, &log);
    // The other flag is not even read.
    let flags = Flags {
        isolation: "external".to_owned(),
        containerizers: "mesos,mesos".to_owned(),
        ..Flags::default()
    };
    let created = create(&flags, &host(Launcher::Linux), &makers).unwrap();
    assert_eq!(
        created.warnings,
        [
            "The 'external' isolation flag is deprecated, please update your flags to '--containerizers=external'."
        ]
    );
    drop(makers);
    assert_eq!(log.into_inner(), ["external"]);
    // Only exactly so: otherwise it is an isolator's name, and there is none of that name.
    let flags = Flags { isolation: "external,posix/cpu".to_owned(), ..Flags::default() };
    assert!(native(flags, Launcher::Linux).unwrap_err().ends_with("isolator 'external'"));
}

#[test]
fn warnings_about_isolators_reach_the_operator() {
    let site = Site::new("warnings").unwrap();
    let makers = Makers { mesos: Some(Box::new(|_, _, _| made(&site))), ..Makers::default() };
    let flags = Flags { isolation: "process,posix/disk".to_owned(), ..Flags::default() };
    let created = create(&flags, &host(Launcher::Posix), &makers).unwrap();
    assert_eq!(created.warnings.len(), 2);
    assert!(created.warnings[0].starts_with("The 'process' isolation flag is deprecated"));
}

#[test]
fn the_launcher_is_what_the_isolators_and_the_host_call_for() {
    let with = |isolation: &str, launcher: Option<&str>, host| {
        let flags = Flags {
            isolation: isolation.to_owned(),
            launcher: launcher.map(str::to_owned),
            ..Flags::default()
        };
        native(flags, host).unwrap().launcher
    };
    assert_eq!(with("posix/cpu", None, Launcher::Posix), Launcher::Posix);
    assert_eq!(with("posix/cpu", None, Launcher::Linux), Launcher::Linux);
    assert_eq!(with("cgroups/cpu", None, Launcher::Posix), Launcher::Linux);
    assert_eq!(with("posix/cpu", Some("linux"), Launcher::Posix), Launcher::Linux);
}

#[test]
fn images_are_on_by_default_where_they_can_be() {
    let kinds = |isolation: &str| {
        let flags = Flags { isolation: isolation.to_owned(), ..Flags::default() };
        native(flags, Launcher::Linux).unwrap().images
    };
    assert_eq!(
        native(Flags::default(), Launcher::Linux).unwrap().images,
        [ImageKind::Docker, ImageKind::Oci]
    );
    assert_eq!(kinds("filesystem/linux,docker/runtime"), [ImageKind::Docker, ImageKind::Oci]);
    assert_eq!(kinds("filesystem/linux"), []);
    assert_eq!(kinds("posix/cpu"), []);
}

#[test]
fn image_providers_have_their_ground_checked() {
    let all = "filesystem/linux,docker/runtime";
    assert_eq!(
        native(images("OCI,Docker,oci,", all), Launcher::Linux).unwrap().images,
        [ImageKind::Oci, ImageKind::Docker]
    );
    let refused = |flags: Flags| {
        let error = native(flags, Launcher::Linux).unwrap_err();
        let prefix = "Failed to create a containerizer: Could not create MesosContainerizer: ";
        error.strip_prefix(prefix).map(str::to_owned).unwrap_or(error)
    };
    assert_eq!(
        refused(images("docker", "docker/runtime")),
        "The 'filesystem/linux' isolator must be enabled for container image support"
    );
    assert_eq!(
        refused(Flags { launcher: Some("posix".to_owned()), ..images("docker", all) }),
        "The 'linux' launcher must be used for container image support"
    );
    assert_eq!(refused(images("zip", all)), "Failed to create provisioner: Unknown image type 'zip'");
    let alone = native(images("APPC", "filesystem/linux,appc/runtime"), Launcher::Linux).unwrap();
    assert_eq!(alone.images, [ImageKind::Appc]);
    assert_eq!(
        refused(images("oci", "filesystem/linux")),
        "Docker runtime isolator has to be specified if 'OCI' is included in 'image_providers'. \
         Please add 'docker/runtime' to '--isolation' flags"
    );
    assert_eq!(
        refused(Flags { image_provisioner_backend: Some("aufs".to_owned()), ..images("docker", all) }),
        "Failed to create provisioner: The specified provisioner backend 'aufs' is not supported: Not found"
    );
}

#[test]
fn an_isolator_that_this_build_lacks_is_unknown() {
    let site = Site::new("lacks").unwrap();
    let makers = Makers {
        mesos: Some(Box::new(|_, _, _| made(&site))),
        has_isolator: Box::new(|name| name != "disk/xfs"),
        ..Makers::default()
    };
    let flags = Flags { isolation: "disk/xfs".to_owned(), ..Flags::default() };
    let error = create(&flags, &host(Launcher::Linux), &makers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not create MesosContainerizer: Unknown or unsupported isolator 'disk/xfs'"
    );
    assert_eq!(error.class(), Class::Invalid);
}
