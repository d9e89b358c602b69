//! Calls to several sets of servers as one.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use maniple::group::{Ending, Fate, Parallel};
use maniple_parts::{
    combined::{Partitions, Selective},
    endpoints::{Balance, CallError, Ejection, Endpoint, Endpoints, PickError, Want},
};

use super::on;

fn lines(list: &[&str]) -> Vec<Endpoint> {
    list.iter().map(|line| line.parse().unwrap()).collect()
}

fn keep(all: &mut Vec<String>, _part: usize, hit: String) -> ControlFlow<()> {
    all.push(hit);
    ControlFlow::Continue(())
}

#[test]
fn a_group_that_fails_is_left_for_another_and_groups_come_and_go() {
    let settings = Endpoints::builder("all")
        .balance(Balance::RoundRobin)
        .ejection(Ejection::new().in_a_row(2));
    let groups = ["east", "west"].map(|name| (Endpoint::new(name), name));
    let selective = Selective::new(settings, groups).unwrap();
    let ask = |group: &&'static str| match *group {
        "east" => Err("down"),
        other => Ok(other),
    };
    let mut failed = 0;
    for _ in 0..20 {
        let want = Want::new();
        let first = selective.call(&want, ask);
        failed += u32::from(first.is_err());
        assert_eq!(first.or_else(|_| selective.call(&want, ask)), Ok("west"));
    }
    assert_eq!(failed, 2, "then it is left out");
    selective.insert("north", "north").unwrap();
    selective
        .insert(Endpoint::new("west").weight(0), "the old west")
        .unwrap();
    assert_eq!(selective.call(&Want::new(), ask), Ok("north"));
    assert_eq!(selective.remove("north").as_deref(), Some(&"north"));
    assert!(selective.remove("north").is_none());
    assert!(selective.remove("east").is_some());
    let nobody = selective.call(&Want::new(), ask);
    assert_eq!(nobody, Err(CallError::Pick(PickError::Empty)));
}

#[test]
fn each_part_is_asked_once_and_a_failure_keeps_its_name() {
    on(2, || {
        let list = lines(&["a:1 part=0/3", "b:1 part=1/3", "c:1 part=2/3", "d:1"]);
        let partitions = Partitions::new(Endpoints::builder("search"), list).unwrap();
        let found = partitions.scheme().unwrap().run(
            Parallel::new(),
            |part, picked| match part.index() {
                1 => Err("down"),
                _ => Ok(picked.address().to_owned()),
            },
            Vec::new(),
            keep,
        );
        let mut hits = found.value;
        hits.sort_unstable();
        assert_eq!(
            (hits, found.end),
            (vec!["a:1".to_owned(), "c:1".to_owned()], Ending::All)
        );
        let Fate::Failed { error, .. } = &found.members[1] else {
            panic!("{:?}", found.members);
        };
        assert_eq!(*error, CallError::Call("down"));
        let stats = partitions.parts()[1].1.stats();
        assert_eq!(stats[0].failed, 1);
    });
}

#[test]
fn a_whole_is_divided_anew_without_a_stop() {
    on(2, || {
        let old = ["a:1 part=0/2", "b:1 part=1/2"];
        let new = ["c:1 part=0/3", "d:1 part=1/3", "e:1 part=2/3"];
        let settings = Endpoints::builder("search").seed(5);
        let partitions = Partitions::new(settings, lines(&old)).unwrap();
        let asked = || {
            let mut schemes = BTreeMap::new();
            for _ in 0..500 {
                let scheme = partitions.scheme().expect("there is always a whole one");
                let found = scheme.run(
                    Parallel::new(),
                    |part, _| Ok::<_, ()>(part.to_string()),
                    Vec::new(),
                    keep,
                );
                assert_eq!(found.value.len(), scheme.parts().len());
                *schemes.entry(found.value.len()).or_insert(0) += 1;
            }
            schemes
        };
        assert_eq!(asked(), BTreeMap::from([(2, 500)]));
        // The third of the new ones is not there yet.
        partitions
            .set(lines(&[&old[..], &new[..2]].concat()))
            .unwrap();
        assert_eq!(asked(), BTreeMap::from([(2, 500)]));
        partitions
            .set(lines(&[&old[..], &new[..]].concat()))
            .unwrap();
        let both = asked();
        assert!(
            (140..260).contains(&both[&2]),
            "two of five servers: {both:?}"
        );
        partitions.set(lines(&new)).unwrap();
        assert_eq!(asked(), BTreeMap::from([(3, 500)]));
        partitions.set(lines(&old[..1])).unwrap();
        assert!(partitions.scheme().is_none());
    });
}

#[test]
fn a_part_whose_servers_are_slow_is_missing_at_the_deadline_and_nothing_else_is() {
    on(2, || {
        let list = lines(&["a:1 part=0/2", "b:1 part=1/2"]);
        let partitions = Partitions::new(Endpoints::builder("search"), list).unwrap();
        let scheme = partitions.scheme().unwrap();
        let found = maniple::timeout(Duration::from_millis(10), || {
            let call = |part: maniple_parts::endpoints::Part, _: &_| {
                if part.index() == 1 {
                    maniple::sleep(Duration::from_secs(60));
                }
                Ok::<_, ()>(part.to_string())
            };
            scheme.run(Parallel::new(), call, Vec::new(), keep)
        });
        let found = found.unwrap();
        assert_eq!(found.value, ["0/2"]);
        assert!(matches!(found.members[1], Fate::Cut { .. }));
    });
}
