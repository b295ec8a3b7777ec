//! Administrators' orders, put to a node that does not decide.

use phalanx_messages::order::{OrderRefusal, RegistrationOrder, ServiceOrder};

use super::*;
use crate::ports::{CarryOut, ExplainService, PlanOrder};

fn of_service(service: &str, order: ServiceOrder) -> RegistrationOrder {
    RegistrationOrder::Service { service: service.to_owned(), order }
}

#[actix_rt::test]
async fn an_order_is_answered_when_a_committed_database_has_consumed_it() {
    let world = world();
    let (_n0, n1) = two_nodes(&world).await;
    let deregister = of_service("licence", ServiceOrder::Deregister);
    assert_eq!(n1.registration.send(CarryOut(deregister)).await.unwrap(), Ok(()));
    assert!(!world.lock().unwrap().run().want, "committed before it is answered");
    until(&world, "the service is stopped", |world| world.run().state == RunState::DeRegistered).await;
    assert_eq!(world.lock().unwrap().actions(N0), [Some(Action::Start), Some(Action::Stop)]);
}

#[actix_rt::test]
async fn orders_of_one_node_are_consumed_one_after_the_other_and_refusals_come_back() {
    let world = world();
    let (_n0, n1) = two_nodes(&world).await;
    let orders = [
        of_service("licence", ServiceOrder::Hold),
        of_service("licence", ServiceOrder::Transfer { to: None }),
        of_service("nothing", ServiceOrder::Register),
        of_service("licence", ServiceOrder::Clear { skip_recovery: false }),
    ];
    let answers = orders.map(|order| n1.registration.send(CarryOut(order)));
    let mut got = Vec::new();
    for answer in answers {
        got.push(answer.await.unwrap());
    }
    let held = OrderFailure::Refused(OrderRefusal::Held { service: "licence".to_owned() });
    let unknown = OrderFailure::Refused(OrderRefusal::UnknownService { service: "nothing".to_owned() });
    assert_eq!(got, [Ok(()), Err(held), Err(unknown), Ok(())]);
    assert!(!world.lock().unwrap().run().held);
}

#[actix_rt::test]
async fn an_order_that_the_dying_decision_maker_did_not_take_is_carried_out_by_the_next_one() {
    let world = world();
    let (n0, mut n1) = two_nodes(&world).await;
    n0.dies(&world); // every message to it is lost
    let order = n1.registration.send(CarryOut(of_service("licence", ServiceOrder::Hold)));
    let order = actix_rt::spawn(order);
    tokio::time::sleep(Duration::from_secs(1)).await;
    n1.registration.do_send(LeaseView { expired: NodeSet::EMPTY, dead: vec![N0], gone: Vec::new() });
    let forced = [(N0, LevelState::ForcedLeaving), (N1, LevelState::Joined)];
    n1.tell(&notification(N0, TransitionKind::ForcedLeaving, 0, &forced));
    n1.acknowledges(N0).await;
    assert_eq!(order.await.unwrap().unwrap(), Ok(()));
    assert!(world.lock().unwrap().run().held);
}

#[actix_rt::test]
async fn an_order_that_nobody_decides_about_is_given_up_in_time() {
    let world = world();
    let (n0, n1) = two_nodes(&world).await;
    n0.dies(&world);
    let before = tokio::time::Instant::now();
    let order = of_service("licence", ServiceOrder::Hold);
    assert_eq!(n1.registration.send(CarryOut(order)).await.unwrap(), Err(OrderFailure::NoDecision));
    assert!((10..12).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
}

#[actix_rt::test]
async fn a_plan_names_what_an_order_would_do_and_changes_nothing() {
    let world = world();
    let (_n0, n1) = two_nodes(&world).await;
    let before = world.lock().unwrap().record();
    let order = of_service("licence", ServiceOrder::Transfer { to: Some(NodeId(1)) });
    let plan = n1.registration.send(PlanOrder(order)).await.unwrap().unwrap();
    let steps: Vec<_> =
        plan.iter().map(|step| (step.action.as_str(), step.node.as_deref(), step.reason.as_str())).collect();
    assert_eq!(steps, [("stop", Some("n0"), "it is transferred")]);
    let explained = n1.registration.send(ExplainService("licence".to_owned())).await.unwrap().unwrap();
    assert_eq!((explained.factor.as_str(), explained.candidates.len()), ("load", 3));
    assert_eq!(world.lock().unwrap().record(), before);
}
