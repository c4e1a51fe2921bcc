//! A loop that polls futures, and threads that wake them.

use std::cell::RefCell;
use std::future::poll_fn;

use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

use crate::events::{Events, Key};
use crate::inbox::{Inbox, Park, Posted};
use crate::mailbox::Mailbox;
use crate::wake_state::{Polled, Wake, WakeState};

/// Runs a model; with `LOOM_MAX_PREEMPTIONS` in the environment through more orders.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(body);
}

/// A target and its future, which is done once `wanted` pieces of work are.
struct Target {
    state: WakeState,
    mailbox: Arc<Mailbox<Arc<Target>>>,
    /// The work that threads do before they wake. Nothing but the state orders it.
    work: [AtomicUsize; 2],
    wanted: usize,
    /// The loop's alone, as all that the GIL guards; loom reports any other thread that touches it.
    polls: Cell<usize>,
}

// SAFETY: none is needed: loom fails a model in which two threads reach `polls` at once.
unsafe impl Sync for Target {}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    Pending,
}

impl Target {
    fn new(mailbox: &Arc<Mailbox<Arc<Self>>>, wanted: usize) -> Arc<Self> {
        Arc::new(Self {
            state: WakeState::default(),
            mailbox: Arc::clone(mailbox),
            work: Default::default(),
            wanted,
            polls: Cell::new(0),
        })
    }

    /// As `targets::Target::wake`.
    fn wake(this: &Arc<Self>) {
        if this.state.wake() == Wake::Notify {
            this.mailbox.post(Arc::clone(this));
        }
    }

    /// Does some work, which a poll must see.
    fn work(this: &Arc<Self>, part: usize) {
        this.work[part].fetch_add(1, Relaxed);
        Self::wake(this);
    }

    /// A step of the awaitable.
    fn step(&self) -> Step {
        self.state.begin();
        self.poll()
    }

    /// The first step: while it polls, `hand_out` gives wakers to other threads.
    fn start<R>(&self, hand_out: impl FnOnce() -> R) -> (Step, R) {
        self.state.begin();
        let threads = hand_out();
        (self.poll(), threads)
    }

    /// Polls, and again at once if it was woken meanwhile.
    fn poll(&self) -> Step {
        loop {
            self.polls.set(self.polls.get() + 1);
            let done: usize = self.work.iter().map(|it| it.load(Relaxed)).sum();
            if done >= self.wanted {
                return Step::Done;
            }
            if self.state.finish() == Polled::Pending {
                return Step::Pending;
            }
            self.state.begin();
        }
    }
}

/// The loop's side: of `NativeLoop::run` what collects, polls and blocks.
struct Loop {
    mailbox: Arc<Mailbox<Arc<Target>>>,
    events: Arc<Events>,
    woken: RefCell<Vec<Arc<Target>>>,
    keys: RefCell<Vec<Key>>,
}

impl Loop {
    fn new() -> Self {
        let made = Self {
            mailbox: Arc::new(Mailbox::default()),
            events: Arc::new(Events::default()),
            woken: RefCell::default(),
            keys: RefCell::default(),
        };
        made.mailbox.attach(&made.events);
        made
    }

    /// An iteration: steps the targets that were woken, and returns how many are done by that.
    fn iterate(&self) -> usize {
        let mut woken = self.woken.borrow_mut();
        if !self.mailbox.take(&mut woken) {
            return 0;
        }
        for (at, target) in woken.iter().enumerate() {
            let twice = woken[..at].iter().any(|it| Arc::ptr_eq(it, target));
            assert!(!twice, "one wake was posted twice");
        }
        woken.drain(..).filter(|target| target.step() == Step::Done).count()
    }

    /// Collects the keys of ready sources.
    fn collect(&self) {
        let mut keys = Vec::new();
        self.events.drain(&mut keys);
        self.keys.borrow_mut().extend(keys);
    }

    /// Runs until `left` futures are done, each of which has been polled once.
    fn run(&self, mut left: usize) {
        loop {
            left -= self.iterate();
            if left == 0 {
                return;
            }
            if self.mailbox.park() == Park::Sleep {
                loom::future::block_on(poll_fn(|context| self.events.poll(context)));
            }
            self.mailbox.unpark();
            self.collect();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A target refers to the mailbox, and the mailbox to targets, which loom would report as a
        // leak. (Not after a panic: the model has failed already.)
        if !std::thread::panicking() {
            self.mailbox.close();
        }
    }
}

/// A thread with a waker of its own.
fn with_waker(
    target: &Arc<Target>,
    body: impl FnOnce(&Arc<Target>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let waker = Arc::clone(target);
    thread::spawn(move || body(&waker))
}

#[test]
fn a_wake_during_or_after_the_poll_is_not_lost() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        let (step, thread) = target.start(|| with_waker(&target, |it| Target::work(it, 0)));
        if step == Step::Pending {
            event_loop.run(1);
        }
        assert!(target.polls.get() <= 2);
        thread.join().unwrap();
    });
}

#[test]
fn no_wake_of_two_threads_at_once_is_lost() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 2);
        let (step, threads) = target
            .start(|| [0, 1].map(|part| with_waker(&target, move |it| Target::work(it, part))));
        if step == Step::Pending {
            event_loop.run(1);
        }
        assert!(target.polls.get() <= 3);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_second_wake_while_the_loop_drains_is_not_lost() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 2);
        let twice = |it: &Arc<Target>| {
            Target::work(it, 0);
            Target::work(it, 0);
        };
        let (step, thread) = target.start(|| with_waker(&target, twice));
        if step == Step::Pending {
            event_loop.run(1);
        }
        thread.join().unwrap();
    });
}

#[test]
fn two_futures_woken_by_two_threads_are_both_stepped() {
    model(|| {
        let event_loop = Loop::new();
        let targets = [(); 2].map(|()| Target::new(&event_loop.mailbox, 1));
        let started = targets
            .each_ref()
            .map(|target| target.start(|| with_waker(target, |it| Target::work(it, 0))));
        let left = started.iter().filter(|it| it.0 == Step::Pending).count();
        if left > 0 {
            event_loop.run(left);
        }
        for (_, thread) in started {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_loop_that_blocks_is_woken_by_events_and_by_wakes() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        let events = Arc::clone(&event_loop.events);
        let both = move |it: &Arc<Target>| {
            events.notify(7);
            Target::work(it, 0);
        };
        let (step, thread) = target.start(|| with_waker(&target, both));
        if step == Step::Pending {
            event_loop.run(1);
        }
        thread.join().unwrap();
        event_loop.collect();
        assert_eq!(*event_loop.keys.borrow(), [7]);
    });
}

#[test]
fn a_wake_meets_a_loop_that_closes() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        assert!(target.step() == Step::Pending);
        // The last reference may be the thread's.
        let thread = with_waker(&target, |it| Target::work(it, 0));
        drop(target);
        let mailbox = Arc::clone(&event_loop.mailbox);
        drop(event_loop);
        thread.join().unwrap();
        // No letter comes any more. (A target that was kept would be a leak to loom.)
        assert!(!mailbox.take(&mut Vec::new()));
    });
}

#[test]
fn a_wake_on_its_way_counts_as_a_waker() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        assert!(target.step() == Step::Pending);
        let thread = with_waker(&target, |it| Target::work(it, 0));
        // As the garbage collector asks before it takes a future apart.
        assert!(Arc::strong_count(&target) > 1, "a wake that is on its way does not count");
        thread.join().unwrap();
        assert_eq!(event_loop.iterate(), 1);
        assert_eq!(Arc::strong_count(&target), 1);
    });
}

/// Letters that nothing orders but the inbox.
#[test]
fn letters_are_seen_whole_and_in_order() {
    struct Letter(Cell<usize>);
    // SAFETY: as for `Target`.
    unsafe impl Sync for Letter {}

    model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let theirs = Arc::clone(&mailbox);
        let thread = thread::spawn(move || {
            for number in 0..2 {
                let letter = Arc::new(Letter(Cell::new(0)));
                letter.0.set(number);
                theirs.post(letter);
            }
        });
        let (mut seen, mut letters) = (Vec::new(), Vec::new());
        mailbox.take(&mut letters);
        seen.extend(letters.drain(..).map(|it| it.0.get()));
        thread.join().unwrap();
        mailbox.take(&mut letters);
        seen.extend(letters.drain(..).map(|it| it.0.get()));
        assert_eq!(seen, [0, 1]);
    });
}

/// As a loop that sleeps on a descriptor of its own: what was written to it, and what it was woken for.
#[derive(Default)]
struct Port {
    inbox: Inbox<usize>,
    written: AtomicUsize,
}

impl Port {
    fn new() -> Arc<Self> {
        let port = Self::default();
        assert_eq!(port.inbox.park(), Park::Sleep);
        Arc::new(port)
    }

    fn post(&self, letter: usize) {
        if self.inbox.post(letter) == Posted::OwnerSleeps {
            self.written.fetch_add(1, Relaxed);
        }
    }

    /// The loop's call, if it was woken.
    fn deliver(&self, into: &mut Vec<usize>) -> bool {
        if self.written.swap(0, Relaxed) == 0 {
            return false;
        }
        let mut letters = Vec::new();
        self.inbox.take(&mut letters);
        into.extend(letters);
        if self.inbox.park() == Park::Mail {
            self.written.fetch_add(1, Relaxed);
        }
        true
    }
}

#[test]
fn an_owner_is_woken_for_every_letter() {
    model(|| {
        let port = Port::new();
        let threads = [0, 1].map(|letter| {
            let port = Arc::clone(&port);
            thread::spawn(move || port.post(letter))
        });
        let mut delivered = Vec::new();
        port.deliver(&mut delivered);
        for thread in threads {
            thread.join().unwrap();
        }
        while port.deliver(&mut delivered) {}
        delivered.sort_unstable();
        assert_eq!(delivered, [0, 1]);
    });
}

#[test]
fn a_letter_makes_up_for_one_that_could_not_wake() {
    model(|| {
        let port = Port::new();
        let failing = {
            let port = Arc::clone(&port);
            thread::spawn(move || {
                if port.inbox.post(0) == Posted::OwnerSleeps {
                    port.inbox.repark();
                }
            })
        };
        port.post(1);
        failing.join().unwrap();
        port.post(2);
        let mut delivered = Vec::new();
        while port.deliver(&mut delivered) {}
        delivered.sort_unstable();
        assert_eq!(delivered, [0, 1, 2]);
    });
}
