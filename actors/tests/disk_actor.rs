//! The disk actor, spoken to by its mailbox alone, on a disk in memory (protocol §1.2, §1.3).

#[cfg(test)]
mod disk_actor {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use actix::prelude::*;
    use futures_util::FutureExt;
    use phalanx_actors::clock::Clock;
    use phalanx_actors::disk::{
        DiskActor, IoMode, ReadConfiguration, ReadDecisions, ReadMembership, ReadRegisters, ReadRegistration,
        WriteConfiguration, WriteDecision, WriteMembership, WriteRegistration,
    };
    use phalanx_actors::gate::Gate;
    use phalanx_actors::guard::PanicGuard;
    use phalanx_actors::ports::{InjectPanic, NodePanic};
    use phalanx_messages::configuration::ConfigurationRecord;
    use phalanx_messages::membership::MembershipRecord;
    use phalanx_messages::profile::TimingProfile;
    use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister};
    use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
    use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Revision, Term};
    use phalanx_storage::{
        Block, BlockIndex, ClusterDisk, Durability, Fault, FaultyDisk, Geometry, Layout, MemoryDisk, SharedDisk,
        Superblock, Target, format,
    };
    use tokio::sync::mpsc;

    const N0: NodeId = NodeId(0);
    const N1: NodeId = NodeId(1);
    const ME: NodeIncarnation = NodeIncarnation { node: N1, incarnation: Incarnation(3) };
    const MODES: [IoMode; 2] = [IoMode::Inline, IoMode::Thread];

    struct Supervisor(mpsc::UnboundedSender<String>);

    impl Actor for Supervisor {
        type Context = Context<Self>;
    }

    impl Handler<NodePanic> for Supervisor {
        type Result = ();

        fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
            self.0.send(message.reason).expect("the test listens");
        }
    }

    /// A disk actor, what lies under it and what it tells the supervisor.
    struct Bench {
        memory: MemoryDisk,
        disk: ClusterDisk,
        gate: Gate,
        panics: mpsc::UnboundedReceiver<String>,
        actor: Addr<DiskActor>,
    }

    impl Bench {
        fn new(mode: IoMode) -> Self {
            Self::over(mode, |memory| Arc::new(memory))
        }

        /// The actor works through what `wrap` makes of the disk.
        fn over(mode: IoMode, wrap: impl FnOnce(MemoryDisk) -> Arc<dyn SharedDisk>) -> Self {
            let memory = formatted();
            let disk = ClusterDisk::open(Arc::new(memory.clone())).unwrap();
            let clock = Clock::tokio();
            let gate = Gate::new(clock);
            let (sender, panics) = mpsc::unbounded_channel();
            let guard = PanicGuard::new("disk", gate.clone(), Supervisor(sender).start().recipient());
            let below = ClusterDisk::open(wrap(memory.clone())).unwrap();
            let actor = DiskActor::new(below, ME, clock, mode, guard).unwrap().start();
            Self { memory, disk, gate, panics, actor }
        }
    }

    fn formatted() -> MemoryDisk {
        let superblock = Superblock {
            cluster: uuid::Uuid::from_u128(1),
            name: "alpha".to_owned(),
            nodes_max: 3,
            services_max: 4,
            profile: TimingProfile::DEV,
            created_at_ms: 0,
        };
        let memory = MemoryDisk::new(Layout::new(3, 4).unwrap().blocks_needed());
        format(&memory, &superblock, &ConfigurationRecord::default(), &RegistrationRecord::default()).unwrap();
        memory
    }

    fn revision(term: u64, seq: u64) -> Revision {
        Revision { term: Term(term), seq }
    }

    fn membership(term: u64, seq: u64) -> WriteMembership {
        let record = MembershipRecord { revision: revision(term, seq), ..MembershipRecord::default() };
        WriteMembership { record: Arc::new(record), durability: Durability::Volatile }
    }

    /// Every request by `Recipient`, each answered from what the one before has written.
    async fn writes_and_reads_every_area(mode: IoMode) {
        let bench = Bench::new(mode);
        let actor = &bench.actor;

        let (write, read) = (actor.clone().recipient::<WriteMembership>(), actor.clone().recipient::<ReadMembership>());
        assert_eq!(read.send(ReadMembership).await.unwrap().unwrap(), Some(MembershipRecord::default()));
        write.send(membership(2, 5)).await.unwrap().unwrap();
        assert_eq!(read.send(ReadMembership).await.unwrap().unwrap().unwrap().revision, revision(2, 5));

        let write = actor.clone().recipient::<WriteConfiguration>();
        let read = actor.clone().recipient::<ReadConfiguration>();
        for seq in [0, 1] {
            let record = ConfigurationRecord { revision: revision(2, seq), ..ConfigurationRecord::default() };
            let message =
                WriteConfiguration { record: Arc::new(record), keep: revision(2, 0), durability: Durability::Durable };
            write.send(message).await.unwrap().unwrap();
        }
        for (wanted, found) in [(None, revision(2, 1)), (Some(revision(2, 0)), revision(2, 0))] {
            let record = read.send(ReadConfiguration { revision: wanted }).await.unwrap().unwrap().unwrap();
            assert_eq!(record.revision, found);
        }
        let absent = ReadConfiguration { revision: Some(revision(9, 0)) };
        assert_eq!(read.send(absent).await.unwrap().unwrap(), None);

        let claim = Claim { term: Term(4), phase: ClaimPhase::Claim, owned: Term(1) };
        let register = DecisionRegister { incarnation: ME.incarnation, claim };
        let write = actor.clone().recipient::<WriteDecision>();
        write.send(WriteDecision { register, durability: Durability::Durable }).await.unwrap().unwrap();
        let all = actor.clone().recipient::<ReadDecisions>().send(ReadDecisions).await.unwrap().unwrap();
        let never = Some(DecisionRegister::default());
        assert_eq!(all, [(N0, never), (N1, Some(register)), (NodeId(2), never)].into());

        let record =
            RegistrationRecord { revision: revision(4, 1), formation: Term(2), ..RegistrationRecord::default() };
        let message = WriteRegistration { record: Arc::new(record.clone()), durability: Durability::Durable };
        actor.clone().recipient::<WriteRegistration>().send(message).await.unwrap().unwrap();
        let read = actor.clone().recipient::<ReadRegistration>();
        assert_eq!(read.send(ReadRegistration).await.unwrap().unwrap(), Some(record));
    }

    #[actix_rt::test]
    async fn writes_and_reads_every_area_inline() {
        tokio::time::pause();
        writes_and_reads_every_area(IoMode::Inline).await;
    }

    #[actix_rt::test]
    async fn writes_and_reads_every_area_on_a_thread() {
        tokio::time::pause();
        writes_and_reads_every_area(IoMode::Thread).await;
    }

    #[actix_rt::test]
    async fn registers_are_read_as_they_are_and_stamped_by_the_clock() {
        for mode in MODES {
            let bench = Bench::new(mode);
            let mut writer = bench.disk.registers().writer(N0, Incarnation(1)).unwrap();
            let register = NodeRegister { heartbeat: 9, ..NodeRegister::default() };
            writer.write(&register, Durability::Volatile).unwrap();
            let region = bench.disk.registers().region();
            [0, 1].into_iter().for_each(|slot| bench.memory.corrupt(region.slot(NodeId(2), slot)));
            let reading = bench.actor.send(ReadRegisters).await.unwrap().unwrap();
            let expected = [(N0, Some(register)), (N1, Some(NodeRegister::default())), (NodeId(2), None)];
            assert_eq!(reading.registers, expected.into(), "{mode:?}");
            assert!(reading.begun <= reading.ended, "{mode:?}");
        }
    }

    /// Protocol §3.2: the read that follows a write must begin after the write has completed.
    #[actix_rt::test]
    async fn requests_are_done_in_the_order_in_which_they_were_asked() {
        for mode in MODES {
            let bench = Bench::new(mode);
            for round in 1..8 {
                // As many as the mailbox takes at once: a `send` into a full one waits outside, and is not in order.
                let mut reads = Vec::new();
                for seq in 0..7 {
                    bench.actor.do_send(membership(round, seq));
                    reads.push(bench.actor.send(ReadMembership));
                }
                let found = futures_util::future::join_all(reads).await;
                let found: Vec<_> = found.into_iter().map(|read| read.unwrap().unwrap().unwrap().revision).collect();
                assert_eq!(found, (0..7).map(|seq| revision(round, seq)).collect::<Vec<_>>(), "{mode:?}");
            }
        }
    }

    #[actix_rt::test]
    async fn a_disk_that_fails_is_told_to_who_asked_and_the_next_request_is_tried() {
        for mode in MODES {
            let bench = Bench::new(mode);
            bench.actor.send(membership(1, 0)).await.unwrap().unwrap();
            bench.memory.fail_writes(true);
            let failure = bench.actor.send(membership(1, 1)).await.unwrap().unwrap_err().to_string();
            assert!(failure.starts_with("failed to write 1 blocks at block"), "{failure}");
            assert!(failure.ends_with(": told to fail writes"), "the cause is named: {failure}");
            bench.memory.fail_writes(false);
            bench.memory.fail_reads(true);
            assert!(bench.actor.send(ReadRegisters).await.unwrap().is_err());
            assert!(bench.actor.send(ReadMembership).await.unwrap().is_err());
            bench.memory.fail_reads(false);
            let record = bench.actor.send(ReadMembership).await.unwrap().unwrap().unwrap();
            assert_eq!(record.revision, revision(1, 0), "what failed has not happened here");
            bench.actor.send(membership(1, 2)).await.unwrap().unwrap();
        }
    }

    #[actix_rt::test]
    async fn an_old_incarnation_cannot_write() {
        for mode in MODES {
            let bench = Bench::new(mode);
            let mut newer = bench.disk.memberships().writer(N1, ME.incarnation.next()).unwrap();
            newer.write(&MembershipRecord::default(), Durability::Volatile).unwrap();
            let failure = bench.actor.send(membership(1, 0)).await.unwrap().unwrap_err().to_string();
            assert_eq!(failure, "incarnation 4 of node 1 has written its membership area; this process has 3");
        }
    }

    #[actix_rt::test]
    async fn a_panic_in_a_handler_closes_the_gate_and_reaches_the_supervisor() {
        for mode in MODES {
            let mut bench = Bench::new(mode);
            bench.actor.do_send(InjectPanic);
            let reason = bench.panics.recv().await.unwrap();
            assert!(reason.contains("actor disk panicked"), "{reason}");
            assert!(bench.gate.is_panicking());
        }
    }

    /// Panics when it is read once it is armed.
    struct Cursed {
        disk: MemoryDisk,
        block: BlockIndex,
    }

    impl SharedDisk for Cursed {
        fn geometry(&self) -> Geometry {
            self.disk.geometry()
        }

        fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
            assert_ne!(first, self.block, "cursed");
            self.disk.read_blocks(first, blocks)
        }

        fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
            self.disk.write_blocks(first, blocks, durability)
        }
    }

    /// A panic below the actor counts as well, on whichever thread it happens, and nobody waits for ever.
    #[actix_rt::test]
    async fn a_panic_on_the_io_thread_is_a_panic_of_the_node() {
        let block = ClusterDisk::open(Arc::new(formatted())).unwrap().decisions().region().first;
        let mut bench = Bench::over(IoMode::Thread, |disk| Arc::new(Cursed { disk, block }));
        bench.actor.send(ReadRegisters).await.unwrap().unwrap();
        let unanswered = bench.actor.send(ReadDecisions).await.unwrap().unwrap_err();
        assert!(unanswered.to_string().starts_with("the disk actor does not answer"), "{unanswered}");
        let reason = bench.panics.recv().await.unwrap();
        assert!(reason.contains("actor disk panicked") && reason.contains("cursed"), "{reason}");
        assert!(bench.gate.is_panicking());
        assert!(bench.actor.send(ReadRegisters).await.unwrap().is_err(), "refused, not silent");
    }

    #[actix_rt::test]
    async fn a_disk_that_hangs_holds_up_nobody_else() {
        let bench = Bench::new(IoMode::Thread);
        bench.memory.stall(true);
        let (mut slow, mut later) =
            (Box::pin(bench.actor.send(membership(1, 0))), Box::pin(bench.actor.send(ReadMembership)));
        assert!((&mut slow).now_or_never().is_none() && (&mut later).now_or_never().is_none());
        // The actor takes messages meanwhile, and the executor runs on.
        assert!(bench.actor.connected());
        tokio::time::timeout(Duration::from_millis(50), &mut slow).await.unwrap_err();
        bench.memory.stall(false);
        slow.await.unwrap().unwrap();
        assert_eq!(later.await.unwrap().unwrap().unwrap().revision, revision(1, 0));
    }

    /// Protocol §1.4: "a hung write blocks only its register". The other register machine goes on, and so does whoever looks for a last
    /// word; what waits is done when the device answers.
    #[actix_rt::test]
    async fn a_write_that_hangs_holds_up_its_own_register_machine_alone() {
        let disk = ClusterDisk::open(Arc::new(formatted())).unwrap();
        let (membership_at, registration_at) = (disk.memberships().region(), disk.registrations().region());
        for hung in [membership_at, registration_at] {
            let faulty = std::cell::OnceCell::new();
            let bench = Bench::over(IoMode::Thread, |memory| {
                let disk = FaultyDisk::around(Arc::new(memory));
                faulty.set(disk.clone()).unwrap();
                Arc::new(disk)
            });
            let faulty = faulty.into_inner().unwrap();
            faulty.inject(Fault::Stall(Target::WRITES.on(hung.first, hung.blocks())));
            let registration = |seq| {
                let record = RegistrationRecord { revision: revision(1, seq), ..RegistrationRecord::default() };
                WriteRegistration { record: Arc::new(record), durability: Durability::Volatile }
            };
            let mut one = Box::pin(bench.actor.send(membership(1, 5)));
            let mut other = Box::pin(bench.actor.send(registration(5)));
            let is_membership = hung == membership_at;
            if is_membership {
                assert!((&mut one).now_or_never().is_none());
                (&mut other).await.unwrap().unwrap();
                let read = bench.actor.send(ReadRegistration).await.unwrap().unwrap().unwrap();
                assert_eq!(read.revision, revision(1, 5));
            } else {
                assert!((&mut other).now_or_never().is_none());
                (&mut one).await.unwrap().unwrap();
                let read = bench.actor.send(ReadMembership).await.unwrap().unwrap().unwrap();
                assert_eq!(read.revision, revision(1, 5));
            }
            bench.actor.send(ReadRegisters).await.unwrap().unwrap();
            faulty.wait_stalled(1);
            faulty.mend();
            if is_membership {
                one.await.unwrap().unwrap()
            } else {
                other.await.unwrap().unwrap()
            }
            assert_eq!(bench.actor.send(ReadMembership).await.unwrap().unwrap().unwrap().revision, revision(1, 5));
        }
    }

    /// Row 27 beyond the registers (protocol §3.8): the node that wrote a record last heals it within two renewals, whoever looks.
    #[actix_rt::test]
    async fn fault_27_what_this_node_wrote_last_is_healed_as_its_register_is() {
        tokio::time::pause();
        let bench = Bench::new(IoMode::Inline);
        let claim = Claim { term: Term(4), phase: ClaimPhase::Owner, owned: Term(4) };
        let decision = DecisionRegister { claim, incarnation: ME.incarnation };
        bench.actor.send(membership(2, 5)).await.unwrap().unwrap();
        let write = WriteDecision { register: decision, durability: Durability::Durable };
        bench.actor.send(write).await.unwrap().unwrap();
        let slots =
            |slot| [bench.disk.memberships().region().slot(N1, slot), bench.disk.decisions().region().slot(N1, slot)];
        slots(0).into_iter().chain(slots(1)).for_each(|slot| bench.memory.corrupt(slot));
        assert_eq!(bench.disk.decisions().read(N1).unwrap(), None);
        tokio::time::sleep(Duration::from_millis(2 * TimingProfile::DEV.renewal_ms + 50)).await;
        assert_eq!(bench.disk.memberships().read(N1).unwrap().unwrap().revision, revision(2, 5));
        assert_eq!(bench.disk.decisions().read(N1).unwrap(), Some(decision));
        let writes = bench.memory.counts().writes;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(bench.memory.counts().writes, writes, "what is whole is left alone");
    }

    /// Protocol §1.3: volatile writes are flushed in the background, as long as the actor lives.
    #[actix_rt::test]
    async fn volatile_writes_are_flushed_in_the_background() {
        let bench = Bench::new(IoMode::Thread);
        let twice = async {
            while bench.memory.counts().flushes < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), twice).await.expect("two flushes");
    }
}
