// SPDX-License-Identifier: Apache-2.0
//! The temporary root password of LXC's own template for CentOS, which needs no network where its cache has a root file system.
//! That is one of busybox here; the template does all else itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use berth_testing::{Build, berth, lacks};

use crate::lacked;

/// In a mount namespace: a `yum` that has no network (the template only wants one to be there, and goes on with its cache), and
/// a place of its own for locks. In the cache: what the template changes in a CentOS.
const SCRIPT: &str = r#"set -e
berth=$1 place=$2
mount --make-rprivate /
mount -t tmpfs none /usr/local/sbin
printf '#!/bin/sh\nexit 1\n' >/usr/local/sbin/yum
chmod 755 /usr/local/sbin/yum
mount -t tmpfs none "$(readlink -f /var/lock)"
"$berth" lxc create -P "$place" -t busybox -n seed -f "$place/empty.conf" >/dev/null
cache=$place/cache/centos/$(uname -m)/7
mkdir -p "$cache"
mv "$place/seed/rootfs" "$cache/rootfs"
rm -r "$place/seed"
cd "$cache/rootfs"
mkdir -p etc/pam.d etc/sysconfig/network-scripts
printf '#!/bin/sh\ncat >/etc/heard\n' >sbin/chpasswd
chmod 755 sbin/chpasswd
echo 'session required pam_loginuid.so' | tee etc/pam.d/login >etc/pam.d/sshd
export LXC_CACHE_PATH=$place/cache
exec "$berth" lxc create -P "$place" -t centos -n cn-centos -f "$place/empty.conf" -- -R 7
"#;

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_password_that_lxcs_own_template_makes_is_found_and_told_to_root_alone() {
    const TEST: &str = "the_password_that_lxcs_own_template_makes_is_found_and_told_to_root_alone";
    if let Some(lacked) = lacked().map(str::to_owned).or_else(|| lacks(&["rsync", "unshare", "bash"])) {
        return berth_test_agent::skip(TEST, &lacked);
    }
    let place = Place(std::env::temp_dir().join(format!("berth-lxc-centos-{}", std::process::id())));
    fs::create_dir(&place.0).unwrap();
    fs::write(place.0.join("empty.conf"), "lxc.net.0.type = empty\n").unwrap();
    let program = berth(Build::Plain).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(program).arg(&place.0).stdin(Stdio::null());
    let done = command.output().unwrap();
    let told = [done.stdout.as_slice(), &done.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(done.status.success() && told.contains("continuing with last known good cache"), "{told}");

    let own = place.0.join("cn-centos");
    // The template adds the name to the path that it is given.
    let file = own.join("cn-centos/tmp_root_pass");
    assert!(told.contains(&format!("the temporary root password is in {}", file.display())), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let password = fs::read_to_string(&file).unwrap();
    assert!(password.starts_with("Root-cn-centos-"), "{password:?}");
    assert!(!told.contains(password.trim()), "it is in what was told: {told}");
    let lxc = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(["lxc", words[0], "-P"]).arg(&place.0).args(&words[1..]).stdin(Stdio::null());
        command.output().unwrap()
    };
    let shown = lxc(&["root-password", "cn-centos"]);
    assert_eq!(shown.stdout, password.as_bytes(), "{shown:?}");
    for words in [&["ls", "-o", "json"][..], &["info", "-o", "json", "cn-centos"]] {
        let shown = lxc(words);
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && !text.contains(password.trim()), "{words:?}: {shown:?}");
    }
    // It is the one that the template has set.
    let heard = fs::read_to_string(own.join("rootfs/etc/heard")).unwrap();
    assert_eq!(heard, format!("root:{password}"));
    assert!(lxc(&["destroy", "cn-centos"]).status.success());
}
