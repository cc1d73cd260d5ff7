// SPDX-License-Identifier: Apache-2.0
//! Users and groups of hostile images.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use berth_image::{ResolvedUser, Root, UserError, resolve_user};
use berth_model::Class;
use rustix::fs::{CWD, FileType, Mode};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:*:1:1::/usr/sbin:/bin/false\n\
    app:x:1000:1001:App:/home/app:/bin/sh\n\
    app:x:2000:2001:Again:/second:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:other,app,\nvideo:x:44:apps\napp:x:1001:\n";

struct Image(tempfile::TempDir);

impl Image {
    fn new(passwd: &str, group: &str) -> Image {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), group).unwrap();
        Image(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn replace(&self, name: &str) -> std::path::PathBuf {
        fs::remove_file(self.path(name)).unwrap();
        self.path(name)
    }

    fn resolve(&self, spec: &str) -> Result<ResolvedUser, UserError> {
        resolve_user(&Root::at(self.0.path()).unwrap(), spec)
    }

    fn ids(&self, spec: &str) -> (u32, u32, Vec<u32>) {
        let user = self.resolve(spec).unwrap();
        (user.uid, user.gid, user.supplementary)
    }
}

#[test]
fn every_form_is_resolved_as_docker_does() {
    let image = Image::new(PASSWD, GROUP);
    assert_eq!(image.ids("app"), (1000, 1001, vec![10, 50]));
    assert_eq!(image.ids("1000"), (1000, 1001, vec![10, 50]));
    assert_eq!(image.ids("app:video"), (1000, 44, vec![]));
    assert_eq!(image.ids("app:0"), (1000, 0, vec![]));
    assert_eq!(image.ids("1000:wheel"), (1000, 10, vec![]));
    assert_eq!(image.ids("4000:5000"), (4000, 5000, vec![]));
    assert_eq!(image.ids("4000"), (4000, 0, vec![]));
    assert_eq!(image.ids("0"), (0, 0, vec![10]));
    assert_eq!(image.ids("4294967294:4294967294"), (4_294_967_294, 4_294_967_294, vec![]));
    assert_eq!(image.ids("2147483648:0"), (2_147_483_648, 0, vec![]));
    let user = image.resolve("app:staff").unwrap();
    assert_eq!((user.home.as_path(), user.name.as_deref()), (Path::new("/home/app"), Some("app")));
    let user = image.resolve("4000").unwrap();
    assert_eq!((user.home.as_path(), user.name.as_deref()), (Path::new("/"), None));
}

#[test]
fn unknown_names_are_not_found() {
    let image = Image::new(PASSWD, GROUP);
    assert_eq!(image.resolve("nobody").unwrap_err().class(), Class::NotFound);
    assert_eq!(image.resolve("app:nogroup").unwrap_err().class(), Class::NotFound);
}

#[test]
fn cve_2026_30892_malformed_strings_are_refused() {
    let image = Image::new(PASSWD, GROUP);
    for spec in [
        "",
        ":",
        ":0",
        "1000:",
        "app:",
        ":app",
        "0:0:0",
        "+0",
        "-1",
        "0:-1",
        "0:+0",
        "1 0",
        " 0",
        "0 ",
        "0\n",
        "0\0",
        "0x0 ",
        "00",
        "01000",
        "0:00",
        "app root",
        "a/b",
        "..",
        "app\u{7f}",
        "\u{0661}",
        "root:x:0",
    ] {
        let error = image.resolve(spec).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{spec:?}: {error}");
        assert!(!error.to_string().contains(['\n', '\0', '\u{7f}']), "{error}");
    }
}

#[test]
fn cve_2024_40635_and_2026_46680_numbers_never_wrap_and_never_become_names() {
    let trap =
        "4294967296:x:0:0::/root:/bin/sh\n99999999999999999999:x:0:0::/root:/bin/sh\n1234:x:0:0::/:/bin/sh\n";
    let image = Image::new(trap, "4294967296:x:0:\n1234:x:0:\n");
    for spec in
        ["4294967295", "4294967296", "4294967297", "99999999999999999999", "0:4294967296", "0:4294967295"]
    {
        assert_eq!(image.resolve(spec).unwrap_err().class(), Class::Invalid, "{spec}");
    }
    assert_eq!(image.ids("1234"), (1234, 0, vec![]));
    assert_eq!(image.ids("1234:1234"), (1234, 1234, vec![]));
}

#[test]
fn numbers_in_the_files_that_do_not_fit_make_a_line_void() {
    let passwd = "a:x:4294967296:0:::\nb:x:-1:0:::\nc:x:4294967295:0:::\nd:x:0x0:0:::\ne:x::0:::\nf:x:1\ng\n\n:x:0:0:::\n+::0:0:::\na:x:7:8::/a:\n";
    let image = Image::new(passwd, "g:x:4294967296:a\nh:x:5:a\ni\n:x:6:a\nj:x:+9:a\n");
    assert_eq!(image.ids("a"), (7, 8, vec![5]));
    for name in ["b", "c", "d", "e", "f", "g"] {
        assert_eq!(image.resolve(name).unwrap_err().class(), Class::NotFound, "{name}");
    }
    assert_eq!(image.resolve("0:g").unwrap_err().class(), Class::NotFound);
}

#[test]
fn without_files_numbers_work_and_names_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path()).unwrap();
    assert_eq!(resolve_user(&root, "5:6").unwrap().gid, 6);
    assert_eq!(resolve_user(&root, "5").unwrap().gid, 0);
    assert_eq!(resolve_user(&root, "root").unwrap_err().class(), Class::NotFound);
    assert_eq!(resolve_user(&root, "0:root").unwrap_err().class(), Class::NotFound);
}

#[test]
fn cve_2026_47262_huge_files_are_refused_by_their_size() {
    let image = Image::new(PASSWD, GROUP);
    let grow =
        |name: &str| fs::OpenOptions::new().write(true).open(image.path(name)).unwrap().set_len(2 << 30);
    grow("etc/group").unwrap();
    let error = image.resolve("app").unwrap_err();
    assert!(crate::archives::chain(&error).contains("4194304"), "{error}");
    assert_eq!(image.ids("app:7"), (1000, 7, vec![]), "a group by number needs no group file");
    grow("etc/passwd").unwrap();
    assert_eq!(image.resolve("app").unwrap_err().class(), Class::Invalid);
}

#[test]
fn files_at_their_limit_are_read() {
    let pad = |text: &str, size: usize| text.to_owned() + &"#".repeat(size - text.len());
    let image = Image::new(&pad(PASSWD, 1 << 20), &pad(GROUP, 4 << 20));
    assert_eq!(image.ids("app"), (1000, 1001, vec![10, 50]));
    let image = Image::new(&pad(PASSWD, (1 << 20) + 1), GROUP);
    image.resolve("app").unwrap_err();
}

#[test]
fn cve_2024_9676_fifos_and_links_out_of_the_image_are_refused() {
    let image = Image::new(PASSWD, GROUP);
    let path = image.replace("etc/passwd");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(image.resolve("app").unwrap_err().class(), Class::Invalid);

    for target in ["/dev/zero", "/etc/passwd-of-the-host", "../../../../../../../etc/passwd"] {
        let path = image.replace("etc/passwd");
        symlink(target, &path).unwrap();
        let error = image.resolve("root").unwrap_err();
        assert_ne!(error.class(), Class::Internal, "{target}: {error}");
    }
    let path = image.replace("etc/passwd");
    fs::create_dir(path).unwrap();
    assert_eq!(image.resolve("0").unwrap_err().class(), Class::Invalid);
}

#[test]
fn a_link_inside_the_image_is_followed() {
    let image = Image::new(PASSWD, GROUP);
    fs::create_dir(image.path("store")).unwrap();
    fs::rename(image.path("etc/passwd"), image.path("store/passwd")).unwrap();
    symlink("/store/passwd", image.path("etc/passwd")).unwrap();
    assert_eq!(image.ids("app"), (1000, 1001, vec![10, 50]));
}

#[test]
fn more_groups_than_the_kernel_takes_are_refused() {
    let groups = |count: u32| (1..=count).map(|gid| format!("g{gid}:x:{gid}:app\n")).collect::<String>();
    let image = Image::new(PASSWD, &groups(65_536));
    assert_eq!(image.resolve("app").unwrap().supplementary.len(), 65_536);
    let image = Image::new(PASSWD, &groups(65_537));
    assert!(matches!(image.resolve("app"), Err(UserError::TooManyGroups { count: 65_537, .. })));
}

#[test]
fn homes_that_could_forge_something_become_the_root() {
    for (home, expected) in [("/home/a b", "/home/a b"), ("relative", "/"), ("/a\u{1b}[31m", "/"), ("", "/")]
    {
        let image = Image::new(&format!("u:x:5:5::{home}:/bin/sh\n"), "");
        assert_eq!(image.resolve("u").unwrap().home, Path::new(expected));
    }
}

#[test]
fn lines_that_are_not_text_are_skipped() {
    let image = Image::new("", "");
    fs::write(image.path("etc/passwd"), b"\xff\xfe:x:0:0::/:\n\0\0\0\nu:x:5:5::/:/bin/sh\n").unwrap();
    assert_eq!(image.resolve("u").unwrap().uid, 5);
}
