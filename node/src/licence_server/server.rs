//! One instance: HTTP on a loopback port. Every answer is JSON with node name and generation.

use std::convert::Infallible;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::instance::{Living, READY};
use super::journal::{Entry, Event, Journal};
use super::ledger::Ledger;

/// What an instance is told.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub node: String,
    pub generation: String,
    pub state: PathBuf,
    pub port: u16,
    pub licences: usize,
}

/// An instance's state: the journal, and what follows from it.
#[derive(Debug)]
pub(super) struct Desk {
    node: String,
    generation: String,
    licences: usize,
    journal: Journal,
    ledger: Ledger,
}

impl Desk {
    /// Reads the journal and writes that this instance is up.
    pub fn open(settings: &Settings, overlap: bool) -> anyhow::Result<Self> {
        let mut journal = Journal::open(&settings.state).context("failed to open the journal")?;
        let entries = journal.read().context("failed to read the journal")?;
        let ledger = Ledger::replay(&entries, settings.licences);
        let (node, generation) = (settings.node.clone(), settings.generation.clone());
        let mut desk = Self { node, generation, licences: settings.licences, journal, ledger };
        desk.write(Event::Up { overlap }).context("failed to write the journal")?;
        Ok(desk)
    }

    /// Journal first, then tell.
    fn write(&mut self, event: Event) -> std::io::Result<()> {
        let entry = Entry::now(&self.node, &self.generation, event);
        self.journal.append(&entry)?;
        self.ledger.apply(&entry);
        Ok(())
    }

    /// Answers one request.
    pub fn answer(&mut self, method: &Method, path: &str, query: &str) -> (StatusCode, Value) {
        let (status, mut body) = if method == Method::GET || method == Method::POST {
            self.route(path, query)
        } else {
            (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": "use GET" }))
        };
        body["node"] = json!(self.node);
        body["generation"] = json!(self.generation);
        (status, body)
    }

    fn route(&mut self, path: &str, query: &str) -> (StatusCode, Value) {
        match path {
            "/take" => self.take(),
            "/return" => self.give_back(query),
            "/status" => {
                let granted: Vec<u64> = self.ledger.granted().collect();
                (StatusCode::OK, json!({ "licences": self.licences, "free": self.ledger.free(), "granted": granted }))
            }
            _ => (StatusCode::NOT_FOUND, json!({ "error": "try /take, /return?id=N or /status" })),
        }
    }

    fn take(&mut self) -> (StatusCode, Value) {
        let Some(id) = self.ledger.next() else {
            return (StatusCode::CONFLICT, json!({ "error": "every licence is out", "free": 0 }));
        };
        match self.write(Event::Take { id }) {
            Ok(()) => (StatusCode::OK, json!({ "id": id, "free": self.ledger.free() })),
            Err(error) => failed(&error),
        }
    }

    fn give_back(&mut self, query: &str) -> (StatusCode, Value) {
        let id = query.split('&').find_map(|pair| pair.strip_prefix("id=")).and_then(|id| id.parse::<u64>().ok());
        let Some(id) = id else {
            return (StatusCode::BAD_REQUEST, json!({ "error": "say which: /return?id=N" }));
        };
        if !self.ledger.is_granted(id) {
            return (StatusCode::NOT_FOUND, json!({ "error": format!("licence {id} is not out") }));
        }
        match self.write(Event::Return { id }) {
            Ok(()) => (StatusCode::OK, json!({ "returned": id, "free": self.ledger.free() })),
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &std::io::Error) -> (StatusCode, Value) {
    (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": format!("failed to write the journal: {error}") }))
}

/// Is an instance until it is killed.
pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    let living = Living::mark(&settings.state).context("failed to mark this instance as living")?;
    let desk = Arc::new(Mutex::new(Desk::open(settings, living.overlap)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let listener = TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
        let mut output = std::io::stdout();
        writeln!(output, "{READY}").and_then(|()| output.flush()).context("nobody waits for this instance")?;
        serve(&listener, &desk).await
    })
}

/// Serves connections until the listener fails.
async fn serve(listener: &TcpListener, desk: &Arc<Mutex<Desk>>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("failed to accept a connection")?;
        let desk = Arc::clone(desk);
        let service = service_fn(move |request| {
            let answer = respond(&desk, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // A client that goes away in the middle of a request is its own affair.
        tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok() });
    }
}

fn respond(desk: &Mutex<Desk>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let mut desk = desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (status, body) = desk.answer(request.method(), uri.path(), uri.query().unwrap_or_default());
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
