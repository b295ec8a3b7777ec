//! systemd units over D-Bus: what `systemctl` asks for a command line, asked directly (feature `systemd-dbus`).
//!
//! A start and a stop are jobs of systemd. They are done when the manager says that the job is removed, with its result; whoever
//! believed the reply to the call would believe a promise. The signal is subscribed to before the call, since a short job ends before
//! its reply has come.
//!
//! Nothing is retried and nothing has a time-out of its own: the warden's is the command's.

use futures_util::StreamExt;
use zbus::message::{Message, Type};
use zbus::zvariant::{DynamicType, ObjectPath, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, MessageStream};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Whatever job of the unit is queued gives way, as with `systemctl`.
const MODE: &str = "replace";

/// What is to be done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitAction {
    /// Start it, and wait until its job has ended.
    Start,
    /// Stop it, and wait until its job has ended.
    Stop,
    /// Say how it is.
    Monitor,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitAnswer {
    /// It is done; or, of a monitor, the unit is active.
    Well,
    /// The unit does not run, and nothing of it is on its way.
    NotRunning(String),
    /// systemd knows no such unit.
    Unknown(String),
    /// Anything else.
    Failed(String),
}

/// Asks the manager of this host, over the system bus. For a process that does nothing else.
#[must_use]
pub fn ask(unit: &str, action: UnitAction) -> UnitAnswer {
    let unreachable = |error: &dyn std::fmt::Display| UnitAnswer::Failed(format!("failed to reach systemd: {error}"));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unreachable(&error),
    };
    runtime.block_on(async {
        match Connection::system().await {
            Ok(connection) => perform(&connection, unit, action).await,
            Err(error) => unreachable(&error),
        }
    })
}

/// Does it over a connection to the manager: the system bus, or the manager's own socket.
pub async fn perform(connection: &Connection, unit: &str, action: UnitAction) -> UnitAnswer {
    let asked = match action {
        UnitAction::Start => job(connection, "StartUnit", unit).await,
        UnitAction::Stop => match job(connection, "StopUnit", unit).await {
            Ok(UnitAnswer::Unknown(_)) => Ok(UnitAnswer::Well), // what systemd has not loaded does not run
            other => other,
        },
        UnitAction::Monitor => state(connection, unit).await,
    };
    asked.unwrap_or_else(|error| UnitAnswer::Failed(format!("systemd does not answer for unit {unit}: {error}")))
}

async fn job(connection: &Connection, method: &str, unit: &str) -> zbus::Result<UnitAnswer> {
    let rule = MatchRule::builder().msg_type(Type::Signal).path(MANAGER_PATH)?.interface(MANAGER)?;
    let mut removed = MessageStream::for_match_rule(rule.member("JobRemoved")?.build(), connection, None).await?;
    // On the bus the manager sends signals only while somebody wants them; who is subscribed already may be told so.
    call(connection, "Subscribe", &()).await.ok();
    let job: OwnedObjectPath = match call(connection, method, &(unit, MODE)).await {
        Ok(reply) => reply.body().deserialize()?,
        Err(zbus::Error::MethodError(name, text, _)) if name.as_str() == NO_SUCH_UNIT => {
            return Ok(UnitAnswer::Unknown(text.unwrap_or_else(|| format!("there is no unit {unit}"))));
        }
        Err(error) => return Err(error),
    };
    while let Some(message) = removed.next().await {
        let body = message?.body();
        let (_, ended, _, result): (u32, ObjectPath<'_>, &str, &str) = body.deserialize()?;
        if ended == *job {
            return Ok(match result {
                "done" => UnitAnswer::Well,
                result => UnitAnswer::Failed(format!("the job of unit {unit} has ended as `{result}` ({method})")),
            });
        }
    }
    Ok(UnitAnswer::Failed(format!("systemd has closed the connection before the job of unit {unit} has ended")))
}

async fn state(connection: &Connection, unit: &str) -> zbus::Result<UnitAnswer> {
    let path: OwnedObjectPath = call(connection, "LoadUnit", &(unit,)).await?.body().deserialize()?;
    let load = property(connection, &path, "LoadState").await?;
    let active = property(connection, &path, "ActiveState").await?;
    Ok(match (load.as_str(), active.as_str()) {
        (_, "active" | "reloading" | "refreshing") => UnitAnswer::Well,
        ("not-found", _) => UnitAnswer::Unknown(format!("there is no unit {unit}")),
        (_, "inactive" | "failed") => UnitAnswer::NotRunning(format!("unit {unit} is {active}")),
        // On its way up or down: bad, but not dead. systemd may be restarting it.
        (_, other) => UnitAnswer::Failed(format!("unit {unit} is {other}")),
    })
}

async fn property(connection: &Connection, unit: &ObjectPath<'_>, name: &str) -> zbus::Result<String> {
    let reply = connection.call_method(Some(BUS_NAME), unit, Some(PROPERTIES), "Get", &(UNIT, name)).await?;
    let value: OwnedValue = reply.body().deserialize()?;
    Ok(String::try_from(value)?)
}

async fn call<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + DynamicType + Sync,
{
    connection.call_method(Some(BUS_NAME), MANAGER_PATH, Some(MANAGER), method, body).await
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
