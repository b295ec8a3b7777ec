//! Grants survive a move, recovery takes back what the dead instance granted, and overlap is told.

use std::path::Path;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::instance::Living;
use super::server::{Desk, Settings};
use super::*;

fn desk(state: &Path, node: &str, generation: &str, licences: usize) -> Desk {
    let (node, generation) = (node.to_owned(), generation.to_owned());
    Desk::open(&Settings { node, generation, state: state.to_owned(), port: 0, licences }, false).unwrap()
}

fn get(desk: &mut Desk, path: &str, query: &str) -> (u16, serde_json::Value) {
    let (status, body) = desk.answer(&Method::GET, path, query);
    (status.as_u16(), body)
}

#[test]
fn licences_are_granted_returned_and_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(dir.path(), "n0", "1.1", 2);
    assert_eq!(get(&mut desk, "/take", ""), (200, json!({ "id": 1, "free": 1, "node": "n0", "generation": "1.1" })));
    assert_eq!(get(&mut desk, "/take", "").1["id"], 2);
    assert_eq!(get(&mut desk, "/take", "").0, 409, "every licence is out");
    assert_eq!(get(&mut desk, "/return", "id=1").0, 200);
    assert_eq!(get(&mut desk, "/return", "id=1").0, 404, "it came back already");
    assert_eq!(get(&mut desk, "/take", "").1["id"], 3, "a number is never given twice");
    assert_eq!(get(&mut desk, "/status", "").1["granted"], json!([2, 3]));
    for (path, query, status) in [("/return", "", 400), ("/return", "id=x", 400), ("/", "", 404)] {
        let (answered, body) = get(&mut desk, path, query);
        assert_eq!((answered, &body["node"]), (status, &json!("n0")), "{path}?{query}");
    }
    assert_eq!(desk.answer(&Method::DELETE, "/take", "").0, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn grants_survive_a_move_and_recovery_takes_back_those_of_the_dead_instance_once() {
    let dir = tempfile::tempdir().unwrap();
    get(&mut desk(dir.path(), "n0", "1.1", LICENCES), "/take", "");
    let mut moved = desk(dir.path(), "n1", "1.2", LICENCES);
    assert_eq!(get(&mut moved, "/status", "").1["granted"], json!([1]), "n0 left gracefully");
    get(&mut moved, "/take", "");
    get(&mut moved, "/take", "");
    drop(moved);
    let dead = Dead { victim: "n1".to_owned(), generation: "1.2".to_owned() };
    assert_eq!(recover(dir.path(), "n2", &dead, "2.7.0").unwrap(), 2);
    assert_eq!(recover(dir.path(), "n2", &dead, "2.7.0").unwrap(), 0, "a repeat changes nothing");
    let entries = Journal::open(dir.path()).unwrap().read().unwrap();
    let recovered: Vec<_> = entries.iter().filter(|entry| entry.recovered_by("2.7.0")).collect();
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].generation, "1.2", "the line names the dead instance's registration");
    let mut next = desk(dir.path(), "n2", "2.8", LICENCES);
    assert_eq!(get(&mut next, "/status", "").1["granted"], json!([1]));
    let never_up = Dead { victim: "n1".to_owned(), generation: "2.9".to_owned() };
    assert_eq!(
        recover(dir.path(), "n2", &never_up, "3.1.0").unwrap(),
        0,
        "an instance that never came up granted nothing"
    );
}

#[test]
fn a_line_that_a_dying_writer_left_unfinished_spoils_nothing() {
    let dir = tempfile::tempdir().unwrap();
    get(&mut desk(dir.path(), "n0", "1.1", LICENCES), "/take", "");
    let path = dir.path().join(JOURNAL);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"at_ms\":17,\"node\":\"n0\",\"ev");
    std::fs::write(&path, text).unwrap();
    let mut next = desk(dir.path(), "n1", "1.2", LICENCES);
    assert_eq!(get(&mut next, "/take", "").1["id"], 2);
    let events: Vec<_> =
        Journal::open(dir.path()).unwrap().read().unwrap().into_iter().map(|entry| entry.event).collect();
    let up = Event::Up { overlap: false };
    assert_eq!(events, [up.clone(), Event::Take { id: 1 }, up, Event::Take { id: 2 }]);
}

#[test]
fn a_second_living_instance_is_told_and_not_prevented() {
    let dir = tempfile::tempdir().unwrap();
    let first = Living::mark(dir.path()).unwrap();
    assert!(!first.overlap);
    assert!(Living::mark(dir.path()).unwrap().overlap);
    drop(first);
    assert!(!Living::mark(dir.path()).unwrap().overlap);
}

/// One request over a connection of its own: status line and body.
fn request(port: u16, path: &str) -> std::io::Result<(String, serde_json::Value)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head and a body");
    let status = head.lines().next().expect("a head has a status line");
    Ok((status.to_owned(), serde_json::from_str(body).expect("the body is JSON")))
}

#[test]
fn answers_over_http_with_node_and_generation_and_names_a_port_that_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    let (node, generation) = ("n1".to_owned(), "4294967297".to_owned());
    let settings = Settings { node, generation, state: dir.path().to_owned(), port, licences: LICENCES };
    let taken = super::server::run(&settings).unwrap_err();
    assert_eq!(taken.to_string(), format!("failed to listen on 127.0.0.1:{port}"));
    drop(free);
    let instance = std::thread::spawn(move || super::server::run(&settings)); // serves until this process ends
    let (status, body) = loop {
        assert!(!instance.is_finished(), "the instance ended");
        match request(port, "/take") {
            Ok(answer) => break answer,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(body, json!({ "id": 1, "free": LICENCES - 1, "node": "n1", "generation": "4294967297" }));
    assert_eq!(request(port, "/return?id=1").unwrap().1["returned"], 1);
    assert_eq!(request(port, "/return?id=1").unwrap().0, "HTTP/1.1 404 Not Found");
}
