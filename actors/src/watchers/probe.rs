//! `tcp` and `http`: nobody answers at an address, or answers wrongly; so many times in a row are an occurrence.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Input, Looks, NoWatch, Tolerance, Watch, missing, number, out, text};

/// Bytes of an answer that are read: its first line is all that counts.
const ANSWER_BYTES_MAX: u64 = 1_024;
const HTTP_PORT: &str = "80";

pub(super) struct Probe {
    address: String,
    http: Option<Http>,
    looks: Looks,
    timeout: Duration,
    tolerance: Tolerance,
}

struct Http {
    url: String,
    host: String,
    path: String,
    status: Option<i64>,
}

impl Probe {
    pub fn tcp(input: Input<'_>) -> Result<Self, NoWatch> {
        Self::new(input.required_text("address")?, None, input)
    }

    pub fn http(input: Input<'_>) -> Result<Self, NoWatch> {
        let url = input.required_text("url")?;
        let rest =
            url.strip_prefix("http://").ok_or_else(|| NoWatch(format!("`{url}` does not begin with http://")))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:{HTTP_PORT}") };
        let (host, path, status) = (host.to_owned(), path.to_owned(), input.number("status"));
        Self::new(address, Some(Http { url, host, path, status }), input)
    }

    fn new(address: String, http: Option<Http>, input: Input<'_>) -> Result<Self, NoWatch> {
        let timeout = Duration::from_millis(input.ms("timeout").ok_or_else(|| missing("timeout"))?);
        let looks = Looks::every(input.interval()?);
        Ok(Self { address, http, looks, timeout, tolerance: Tolerance::new(input) })
    }

    /// What is wrong, with the status that was answered; 0 if none was.
    async fn look(&self) -> Result<(), (i64, String)> {
        let looked = tokio::time::timeout(self.timeout, self.ask()).await;
        let status = match looked {
            Err(_) => return Err((0, format!("no answer within {} ms", self.timeout.as_millis()))),
            Ok(Err(error)) => return Err((0, error.to_string())),
            Ok(Ok(status)) => status,
        };
        let Some((http, status)) = self.http.as_ref().zip(status) else { return Ok(()) };
        let good = http.status.map_or((200..400).contains(&status), |wanted| wanted == status);
        if good { Ok(()) } else { Err((status, format!("answered with status {status}"))) }
    }

    async fn ask(&self) -> io::Result<Option<i64>> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let Some(Http { host, path, .. }) = &self.http else { return Ok(None) };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: phalanx\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut stream = stream.take(ANSWER_BYTES_MAX);
        while !answer.contains(&b'\n') && stream.read_buf(&mut answer).await? > 0 {}
        let line = String::from_utf8_lossy(&answer);
        let mut words = line.split_whitespace();
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/"));
        let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
        status.map(Some).ok_or_else(|| io::Error::other("what answers does not speak HTTP"))
    }
}

impl Watch for Probe {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                self.looks.due().await;
                let Err((status, error)) = self.look().await else {
                    self.tolerance.good();
                    continue;
                };
                let Some(bad) = self.tolerance.bad() else { continue };
                let (bad, error) = (("bad", number(bad)), ("error", text(error)));
                return Ok(match &self.http {
                    None => out([("address", text(&self.address)), bad, error]),
                    Some(http) => out([("url", text(&http.url)), ("status", number(status)), bad, error]),
                });
            }
        }
        .boxed_local()
    }
}
