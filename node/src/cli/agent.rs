//! `phalanx agent ...`: the agents of this host, which need no cluster to be looked at.

use phalanx_messages::service::AgentClass;

use super::args::{AgentCommand, Global, Output};
use super::show::EXIT_UNKNOWN;
use super::{Exit, print};
use crate::config::duration_text;
use crate::ocf::{self, Metadata};

pub(super) fn run(command: AgentCommand, global: &Global) -> Result<(), Exit> {
    match command {
        AgentCommand::List => list(global),
        AgentCommand::Describe { agent } => describe(&agent, global),
    }
}

fn list(global: &Global) -> Result<(), Exit> {
    let agents = ocf::installed();
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&agents)?),
        Output::Text => {
            agents.iter().for_each(|agent| anstream::println!("{agent}"));
            if agents.is_empty() {
                anstream::eprintln!(
                    "there are no OCF agents below {}; the package is called resource-agents",
                    ocf::root().display()
                );
            }
        }
    }
    Ok(())
}

fn describe(name: &str, global: &Global) -> Result<(), Exit> {
    let class: AgentClass = name.parse().map_err(|error| {
        Exit::code(2, format!("the agent {error}")).hint("as in `phalanx agent describe ocf:heartbeat:IPaddr2`")
    })?;
    let AgentClass::Ocf { provider, agent } = &class else {
        return Err(Exit::error(format!("{class} takes no parameters and describes nothing")));
    };
    let metadata = ocf::metadata(provider, agent)
        .map_err(|text| Exit::code(EXIT_UNKNOWN, text).hint("`phalanx agent list` shows what is installed here"))?;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&metadata)?),
        Output::Text => anstream::print!("{}", text(&class, &metadata)),
    }
    Ok(())
}

fn text(class: &AgentClass, metadata: &Metadata) -> String {
    let mut text = format!("{class}: {}\n\n{}\n\n", metadata.summary, metadata.description);
    let mut rows = vec![["PARAMETER", "TYPE", "DEFAULT", "WHAT IT IS"].map(str::to_owned).to_vec()];
    rows.extend(metadata.parameters.iter().map(|parameter| {
        let default = if parameter.required { "(required)" } else { parameter.default.as_deref().unwrap_or("-") };
        vec![parameter.name.clone(), parameter.kind.clone(), default.to_owned(), parameter.summary.clone()]
    }));
    text += &print::table(&rows);
    text.push('\n');
    let mut rows = vec![["ACTION", "TIME-OUT", "INTERVAL"].map(str::to_owned).to_vec()];
    let duration = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), duration_text);
    rows.extend(
        metadata
            .actions
            .iter()
            .map(|action| vec![action.name.clone(), duration(action.timeout_ms), duration(action.interval_ms)]),
    );
    text + &print::table(&rows)
}
