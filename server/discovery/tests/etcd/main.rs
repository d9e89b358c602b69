//! Lists and registrations with etcd itself: what it does to them, and what becomes of them when it fails.

mod authority;
mod cluster;
mod kept;
mod link;

use std::time::Duration;

use maniple_discovery::{Etcd, Following};
use maniple_parts::endpoints::{Endpoint, Endpoints};
use maniple_tls::{Certificate, ClientConfig};

use authority::Authority;
use cluster::{Cluster, eventually};
use link::Link;

const SHORT: Duration = Duration::from_millis(500);

fn in_a_runtime(test: impl FnOnce() + Send) {
    kept::keep();
    let runtime = maniple::Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| maniple::timeout(cluster::PATIENCE * 2, test).expect("no hang"));
}

/// One that soon takes an etcd for lost.
fn client(members: &[String]) -> Etcd {
    let builder = Etcd::builder(members).patience(SHORT).silence(SHORT);
    builder.build().unwrap()
}

/// One to which an etcd that a busy machine keeps from its work is none that is lost.
fn patient(members: &[String]) -> Etcd {
    let builder = Etcd::builder(members).patience(cluster::PATIENCE);
    builder.silence(cluster::PATIENCE).build().unwrap()
}

fn empty() -> Endpoints {
    let nobody: [Endpoint; 0] = [];
    Endpoints::builder("prices").build(nobody).unwrap()
}

fn texts(endpoints: &Endpoints) -> Vec<String> {
    let list = endpoints.list();
    list.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn comes_to(endpoints: &Endpoints, expected: &[&str]) {
    eventually(&format!("{expected:?}"), || texts(endpoints) == expected);
}

fn is_watched(following: &Following) {
    eventually("a watch", || following.stats().member.is_some());
}

#[test]
#[ignore = "it needs etcd"]
fn who_registers_is_listed_and_who_revokes_is_not() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        let etcd = patient(&cluster.addresses());
        let prices = empty();
        let ttl = Duration::from_secs(20);
        let weighed = Endpoint::new("10.0.0.7:80").weight(3).zone("a");
        let seven = etcd.register("/prices/", weighed, ttl).unwrap();
        assert!(seven.is_registered());
        // What is there is known when it returns.
        let following = etcd.follow(&prices, "/prices/").unwrap();
        assert_eq!(texts(&prices), ["10.0.0.7:80 weight=3 zone=a"]);
        let eight = etcd.register("/prices/", "10.0.0.8:80", ttl).unwrap();
        comes_to(&prices, &["10.0.0.7:80 weight=3 zone=a", "10.0.0.8:80"]);
        // By hand, with what a server is in the key, and what is none.
        cluster.ctl(&["put", "/prices/10.0.0.9:80", ""]);
        cluster.ctl(&["put", "/prices/strange", "a:1 colour=red"]);
        cluster.ctl(&["put", "/prices-old/x", "old:1"]);
        cluster.ctl(&["put", "/prices/a", "first:80"]);
        let all = [
            "10.0.0.7:80 weight=3 zone=a",
            "10.0.0.8:80",
            "10.0.0.9:80",
            "first:80",
        ];
        comes_to(&prices, &all);
        seven.revoke().unwrap();
        cluster.ctl(&["del", "/prices/10.0.0.9:80"]);
        comes_to(&prices, &["10.0.0.8:80", "first:80"]);
        drop(eight);
        comes_to(&prices, &["first:80"]);
        // The last one is kept: who says that there is nobody is most often wrong.
        cluster.ctl(&["del", "--prefix", "/prices/"]);
        cluster.ctl(&["put", "/prices/b", "second:80"]);
        comes_to(&prices, &["second:80"]);
        assert_eq!(following.stats().failures, 0);
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_list_ends_with_a_slash_and_a_lease_with_a_day() {
    in_a_runtime(|| {
        let etcd = client(&["127.0.0.1:1".to_owned()]);
        let wrong = etcd.follow(&empty(), "/prices").unwrap_err();
        assert_eq!(wrong.kind(), std::io::ErrorKind::InvalidInput);
        for ttl in [Duration::ZERO, Duration::MAX, Duration::from_secs(86_401)] {
            let wrong = etcd.register("/prices/", "h:1", ttl).unwrap_err();
            assert_eq!(wrong.kind(), std::io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_lease_that_is_gone_is_taken_anew() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        let etcd = patient(&cluster.addresses());
        let place = etcd.register("/s/", "h:1", Duration::from_secs(3)).unwrap();
        let lease = place.stats().lease.expect("it is registered");
        // Renewed beyond its time.
        eventually("it is kept", || place.stats().kept > 4);
        assert_eq!(
            (cluster.values("/s/"), place.stats().registered),
            (vec!["h:1".to_owned()], 1)
        );
        cluster.ctl(&["lease", "revoke", &format!("{lease:x}")]);
        assert!(cluster.values("/s/").is_empty());
        eventually("it registers again", || place.stats().registered == 2);
        eventually("it is there", || cluster.values("/s/") == ["h:1"]);
        assert_ne!(place.stats().lease, Some(lease));
        place.revoke().unwrap();
        assert!(cluster.values("/s/").is_empty());
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_registry_that_stood_still_beyond_the_lease_has_the_server_again() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        let etcd = client(&cluster.addresses());
        let place = etcd.register("/s/", "h:1", Duration::from_secs(1)).unwrap();
        let ttl = place.stats().ttl;
        cluster.members[0].freeze();
        eventually("it is known to be lost", || !place.is_registered());
        maniple::sleep(ttl);
        cluster.members[0].thaw();
        eventually("it registers again", || place.stats().registered >= 2);
        eventually("it is there", || cluster.values("/s/") == ["h:1"]);
        // And goes on being there, whatever becomes of the old lease.
        let kept = place.stats().kept;
        eventually("it is kept", || place.stats().kept > kept + 4);
        eventually("it is still there", || cluster.values("/s/") == ["h:1"]);
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_registry_that_is_down_changes_nothing_and_is_followed_when_it_is_back() {
    in_a_runtime(|| {
        let mut cluster = Cluster::start(1);
        cluster.ctl(&["put", "/s/a", "a:1"]);
        let etcd = client(&cluster.addresses());
        let servers = empty();
        let following = etcd.follow(&servers, "/s/").unwrap();
        let place = etcd
            .register("/s/", "h:1", Duration::from_secs(60))
            .unwrap();
        comes_to(&servers, &["a:1", "h:1"]);
        is_watched(&following);
        cluster.members[0].kill();
        eventually("it is seen", || following.stats().member.is_none());
        eventually("and more than once", || following.stats().failures >= 3);
        assert_eq!(texts(&servers), ["a:1", "h:1"]);
        cluster.restart(0);
        cluster.is_up();
        cluster.ctl(&["put", "/s/b", "b:1"]);
        comes_to(&servers, &["a:1", "b:1", "h:1"]);
        // The lease is the one that it was.
        let kept = place.stats().kept;
        eventually("it is kept", || place.stats().kept > kept);
        assert_eq!(place.stats().registered, 1);
    });
}

#[test]
#[ignore = "it needs etcd"]
fn without_a_registry_at_the_start_there_is_a_list_once_it_is_there() {
    in_a_runtime(|| {
        let mut cluster = Cluster::start(1);
        cluster.ctl(&["put", "/s/a", "a:1"]);
        cluster.members[0].kill();
        let etcd = client(&cluster.addresses());
        let servers = Endpoints::builder("s").build(["last-known:1"]).unwrap();
        let _following = etcd.follow(&servers, "/s/").unwrap();
        let place = etcd
            .register("/s/", "h:1", Duration::from_secs(60))
            .unwrap();
        assert_eq!(
            (texts(&servers), place.is_registered()),
            (vec!["last-known:1".to_owned()], false)
        );
        cluster.restart(0);
        comes_to(&servers, &["a:1", "h:1"]);
        assert!(place.is_registered());
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_history_that_is_compacted_between_list_and_watch_is_listed_again() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        cluster.ctl(&["put", "/s/a", "first:1"]);
        // Nothing goes to etcd behind the first list.
        let link = Link::to(&cluster.members[0].address, "first:1");
        let members = [link.address.clone()];
        let etcd = Etcd::builder(&members)
            .silence(cluster::PATIENCE)
            .build()
            .unwrap();
        let servers = empty();
        let following = etcd.follow(&servers, "/s/").unwrap();
        assert!(link.is_held());
        cluster.ctl(&["del", "/s/a"]);
        let put = cluster.ctl(&["put", "/s/b", "second:1", "--write-out=json"]);
        let behind = put.split("\"revision\":").nth(1).unwrap();
        let revision = behind.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        cluster.ctl(&["compact", revision]);
        assert_eq!(texts(&servers), ["first:1"]);
        link.let_go();
        comes_to(&servers, &["second:1"]);
        let stats = following.stats();
        assert_eq!((stats.lists, stats.compacted, stats.failures), (2, 1, 0));
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_member_that_falls_silent_is_left_for_another() {
    in_a_runtime(|| {
        let cluster = Cluster::start(3);
        let etcd = client(&cluster.addresses());
        cluster.ctl(&["put", "/s/a", "a:1"]);
        let servers = empty();
        let following = etcd.follow(&servers, "/s/").unwrap();
        is_watched(&following);
        let watched = following.stats().member.unwrap();
        let silent = cluster
            .members
            .iter()
            .position(|m| m.address == watched)
            .unwrap();
        cluster.members[silent].freeze();
        // Its connection is there and whole: only the silence tells.
        eventually("another is watched", || {
            let member = following.stats().member;
            member.is_some_and(|member| member != watched)
        });
        let there = (silent + 1) % 3;
        eventually("etcd has a leader", || {
            cluster.try_at(there, &["put", "/s/b", "b:1"])
        });
        comes_to(&servers, &["a:1", "b:1"]);
        cluster.members[silent].thaw();
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_quiet_watch_is_no_silent_one() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        cluster.ctl(&["put", "/s/a", "a:1"]);
        let members = cluster.addresses();
        let builder = Etcd::builder(&members).silence(Duration::from_secs(2));
        let etcd = builder.relist(Duration::from_secs(5)).build().unwrap();
        let servers = empty();
        let following = etcd.follow(&servers, "/s/").unwrap();
        // Many times its silence without a change.
        eventually("it is listed again in time", || {
            following.stats().lists == 3
        });
        let stats = following.stats();
        assert_eq!((stats.changes, stats.failures), (0, 0));
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_member_without_a_leader_is_not_trusted_and_the_list_stays() {
    in_a_runtime(|| {
        let mut cluster = Cluster::start(3);
        let etcd = client(&cluster.addresses());
        cluster.ctl(&["put", "/s/a", "a:1"]);
        let servers = empty();
        let following = etcd.follow(&servers, "/s/").unwrap();
        let place = etcd.register("/s/", "h:1", Duration::from_secs(2)).unwrap();
        comes_to(&servers, &["a:1", "h:1"]);
        is_watched(&following);
        let watched = following.stats().member.unwrap();
        let left = cluster
            .members
            .iter()
            .position(|m| m.address == watched)
            .unwrap();
        let (one, two) = ((left + 1) % 3, (left + 2) % 3);
        cluster.members[one].kill();
        cluster.members[two].kill();
        // The one that is left answers, and knows nothing.
        eventually("its watch is given up", || {
            following.stats().member.is_none()
        });
        eventually("the lease is not taken for kept", || !place.is_registered());
        assert_eq!(texts(&servers), ["a:1", "h:1"]);
        cluster.restart(one);
        cluster.is_up();
        cluster.ctl(&["put", "/s/b", "b:1"]);
        comes_to(&servers, &["a:1", "b:1", "h:1"]);
        eventually("it is registered", || place.is_registered());
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_change_of_leaders_costs_neither_a_place_nor_a_change() {
    in_a_runtime(|| {
        let mut cluster = Cluster::start(3);
        let etcd = client(&cluster.addresses());
        let servers = empty();
        let place = etcd
            .register("/s/", "h:1", Duration::from_secs(30))
            .unwrap();
        let _following = etcd.follow(&servers, "/s/").unwrap();
        for round in 0..3 {
            let leader = cluster.leader();
            cluster.members[leader].kill();
            cluster.is_up();
            let (key, value) = (format!("/s/{round}"), format!("r:{round}"));
            cluster.ctl(&["put", &key, &value]);
            eventually("it is followed", || texts(&servers).contains(&value));
            cluster.restart(leader);
            cluster.is_up();
        }
        assert!(texts(&servers).contains(&"h:1".to_owned()));
        let kept = place.stats().kept;
        eventually("it is kept", || place.stats().kept > kept);
        assert_eq!(place.stats().registered, 1);
    });
}

#[test]
#[ignore = "it needs etcd"]
fn a_cluster_that_knows_its_users_is_told_who_asks() {
    in_a_runtime(|| {
        let cluster = Cluster::start(1);
        cluster.ctl(&["put", "/s/a", "a:1"]);
        cluster.ctl(&["user", "add", "root:sword@fish"]);
        cluster.ctl(&["user", "grant-role", "root", "root"]);
        cluster.ctl(&["auth", "enable"]);
        let members = cluster.addresses();
        let servers = empty();
        let stranger = client(&members).follow(&servers, "/s/").unwrap();
        assert!(stranger.stats().failures > 0 && servers.list().is_empty());
        drop(stranger);
        let known = |password| {
            let builder = Etcd::builder(&members).user("root", password);
            builder.patience(cluster::PATIENCE).build().unwrap()
        };
        is_refused(&known("guessed-swordfish"), "authentication failed");
        let etcd = known("sword@fish");
        let place = etcd
            .register("/s/", "h:1", Duration::from_secs(30))
            .unwrap();
        let _following = etcd.follow(&servers, "/s/").unwrap();
        assert_eq!(texts(&servers), ["a:1", "h:1"]);
        place.revoke().unwrap();
        comes_to(&servers, &["a:1"]);
        // By the URL, and by a token.
        let token = cluster.token("root", "sword@fish");
        for login in ["root:sword%40fish", &token] {
            let there = members
                .iter()
                .map(|member| format!("http://{login}@{member}"));
            let servers = empty();
            let etcd = client(&there.collect::<Vec<_>>());
            let _following = etcd.follow(&servers, "/s/").unwrap();
            assert_eq!(texts(&servers), ["a:1"]);
            let shown = format!("{etcd:?}");
            assert!(
                shown.contains(&members[0]) && !shown.contains(login),
                "{shown}"
            );
        }
        let builder = Etcd::builder(&members).token("swordfish.1").patience(SHORT);
        let wrong = builder.build().unwrap().follow(&servers, "/s/").unwrap();
        assert!(wrong.stats().failures > 0);
        let fault = wrong.stats().fault.unwrap_or_default();
        assert!(
            fault.contains("invalid auth token") && fault.contains(&members[0]),
            "{fault}"
        );
        for secret in ["swordfish", "sword@fish", "sword%40fish", &token] {
            assert!(!kept::has(&[secret]), "{secret}");
        }
    });
}

/// No list is had from there, for this reason.
#[track_caller]
fn is_refused(etcd: &Etcd, why: &str) {
    let servers = empty();
    let following = etcd.follow(&servers, "/s/").unwrap();
    assert!(following.stats().failures > 0 && servers.list().is_empty());
    let fault = following.stats().fault.unwrap_or_default();
    assert!(fault.contains(why), "{fault:?} is not {why:?}");
}

#[test]
#[ignore = "it needs etcd"]
fn a_cluster_behind_tls_is_followed_by_who_believes_it_and_shows_who_it_is() {
    in_a_runtime(|| {
        let authority = Authority::new();
        let cluster = Cluster::start_secured(&authority);
        cluster.ctl(&["put", "/s/a", "a:1"]);
        let certify = |name: &str| {
            let (chain, key) = authority.sign(name);
            Certificate::pem(chain, key)
        };
        let certified = |name: &str| authority.client().certificate(certify(name)).build();
        let builder = |scheme: &str, tls: ClientConfig| {
            let at = format!("{scheme}{}", cluster.members[0].address);
            Etcd::builder([at])
                .tls(tls)
                .patience(SHORT * 4)
                .silence(SHORT)
        };
        let root = || certified("root").unwrap();
        for scheme in ["https://", ""] {
            let etcd = builder(scheme, root()).build().unwrap();
            let servers = empty();
            let place = etcd
                .register("/s/", "b:1", Duration::from_secs(20))
                .unwrap();
            let following = etcd.follow(&servers, "/s/").unwrap();
            assert_eq!(texts(&servers), ["a:1", "b:1"]);
            is_watched(&following);
            place.revoke().unwrap();
            comes_to(&servers, &["a:1"]);
        }
        // Whom it does not believe, who does not say who it is, and who does not speak TLS.
        let strangers = Authority::new().client().certificate(certify("root"));
        let strangers = builder("https://", strangers.build().unwrap());
        is_refused(&strangers.build().unwrap(), "invalid peer certificate");
        let nobody = builder("https://", authority.client().build().unwrap());
        is_refused(&nobody.build().unwrap(), "ertificate");
        let plain = builder("http://", root()).build().unwrap();
        is_refused(&plain, "");

        // With users, a certificate's name is one, and a password comes before it.
        for command in [
            &["user", "add", "root:swordfish"][..],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            cluster.ctl(command);
        }
        let servers = empty();
        let named = builder("https://", root()).build().unwrap();
        let _following = named.follow(&servers, "/s/").unwrap();
        assert_eq!(texts(&servers), ["a:1"]);
        let other = || certified("somebody").unwrap();
        is_refused(
            &builder("https://", other()).build().unwrap(),
            "permission denied",
        );
        let told = builder("https://root:swordfish@", other()).build().unwrap();
        let servers = empty();
        let _following = told.follow(&servers, "/s/").unwrap();
        assert_eq!(texts(&servers), ["a:1"]);
        assert!(!kept::has(&["swordfish"]));
    });
}
