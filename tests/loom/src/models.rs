//! A loop that steps futures, and threads that wake them.

use std::cell::RefCell;
use std::future::poll_fn;

use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

use crate::events::{Events, Key};
use crate::wakes::{Mailbox, Marks, Park, Polled, Wake};

/// Runs a model; with `LOOM_MAX_PREEMPTIONS` in the environment through more orders.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(body);
}

/// A target and the future it is for, which is done once so much work is.
struct Target {
    marks: Marks,
    mailbox: Arc<Mailbox<Arc<Target>>>,
    /// What wakers do before they wake. Nothing but the marks orders it.
    work: [AtomicUsize; 2],
    wanted: usize,
    /// The loop's alone, as what the GIL guards is; loom sees who else touches it.
    polls: Cell<usize>,
}

// SAFETY: none is needed: loom fails a model in which two threads reach `polls` at once.
unsafe impl Sync for Target {}

impl Target {
    fn new(mailbox: &Arc<Mailbox<Arc<Self>>>, wanted: usize) -> Arc<Self> {
        Arc::new(Self {
            marks: Marks::default(),
            mailbox: Arc::clone(mailbox),
            work: Default::default(),
            wanted,
            polls: Cell::new(0),
        })
    }

    /// As `targets::Target::wake`.
    fn wake(this: &Arc<Self>) {
        if this.marks.wake() == Wake::Notify {
            this.mailbox.post(Arc::clone(this));
        }
    }

    /// Some work, of which a poll must hear.
    fn work(this: &Arc<Self>, part: usize) {
        this.work[part].fetch_add(1, Relaxed);
        Self::wake(this);
    }

    /// A step of the awaitable.
    fn step(&self) -> bool {
        self.marks.begin();
        self.poll()
    }

    /// The first step: its poll is what gives wakers away. `true`: done.
    fn start<R>(&self, give: impl FnOnce() -> R) -> (bool, R) {
        self.marks.begin();
        let given = give();
        (self.poll(), given)
    }

    /// Polls, and again at once if it was woken meanwhile.
    fn poll(&self) -> bool {
        loop {
            self.polls.set(self.polls.get() + 1);
            let done: usize = self.work.iter().map(|it| it.load(Relaxed)).sum();
            if done >= self.wanted {
                return true;
            }
            if self.marks.finish() == Polled::Pending {
                return false;
            }
            self.marks.begin();
        }
    }
}

/// The loop's side of it: `NativeLoop::run` without what else it does.
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

    /// Steps what was woken; how many are done by that.
    fn turn(&self) -> usize {
        let mut woken = self.woken.borrow_mut();
        if !self.mailbox.take(&mut woken) {
            return 0;
        }
        for (at, target) in woken.iter().enumerate() {
            let twice = woken[..at].iter().any(|it| Arc::ptr_eq(it, target));
            assert!(!twice, "one wake, told twice");
        }
        woken.drain(..).filter(|target| target.step()).count()
    }

    /// Collects what sources have.
    fn look(&self) {
        let mut keys = Vec::new();
        self.events.drain(&mut keys);
        self.keys.borrow_mut().extend(keys);
    }

    /// Runs until so many futures are done, which have been polled once.
    fn run(&self, mut left: usize) {
        loop {
            left -= self.turn();
            if left == 0 {
                return;
            }
            if self.mailbox.park() == Park::Sleep {
                loom::future::block_on(poll_fn(|context| self.events.poll(context)));
            }
            self.mailbox.unpark();
            self.look();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A target refers to the mailbox, and the mailbox to targets; loom tells of leaks. A model
        // that has failed is over.
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
        let (done, thread) = target.start(|| with_waker(&target, |it| Target::work(it, 0)));
        if !done {
            event_loop.run(1);
        }
        assert!(target.polls.get() <= 2);
        thread.join().unwrap();
    });
}

#[test]
fn two_threads_that_wake_one_future_at_once_are_both_heard() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 2);
        let (done, threads) = target
            .start(|| [0, 1].map(|part| with_waker(&target, move |it| Target::work(it, part))));
        if !done {
            event_loop.run(1);
        }
        assert!(target.polls.get() <= 3);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_thread_that_wakes_again_while_the_loop_drains_is_heard() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 2);
        let twice = |it: &Arc<Target>| {
            Target::work(it, 0);
            Target::work(it, 0);
        };
        let (done, thread) = target.start(|| with_waker(&target, twice));
        if !done {
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
        let left = started.iter().filter(|it| !it.0).count();
        if left > 0 {
            event_loop.run(left);
        }
        for (_, thread) in started {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_loop_that_sleeps_is_woken_by_events_and_wakes_alike() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        let events = Arc::clone(&event_loop.events);
        let both = move |it: &Arc<Target>| {
            events.notify(7);
            Target::work(it, 0);
        };
        let (done, thread) = target.start(|| with_waker(&target, both));
        if !done {
            event_loop.run(1);
        }
        thread.join().unwrap();
        event_loop.look();
        assert_eq!(*event_loop.keys.borrow(), [7]);
    });
}

#[test]
fn a_wake_meets_a_loop_that_closes() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        assert!(!target.step());
        // The last reference may be the thread's.
        let thread = with_waker(&target, |it| Target::work(it, 0));
        drop(target);
        let mailbox = Arc::clone(&event_loop.mailbox);
        drop(event_loop);
        thread.join().unwrap();
        // Nothing comes any more; what was kept loom would find leaked.
        assert!(!mailbox.take(&mut Vec::new()));
    });
}

#[test]
fn a_wake_on_its_way_counts_as_a_waker() {
    model(|| {
        let event_loop = Loop::new();
        let target = Target::new(&event_loop.mailbox, 1);
        assert!(!target.step());
        let thread = with_waker(&target, |it| Target::work(it, 0));
        // What the garbage collector asks before it takes a future apart.
        assert!(Arc::strong_count(&target) > 1, "a wake that is on its way does not count");
        thread.join().unwrap();
        assert_eq!(event_loop.turn(), 1);
        assert_eq!(Arc::strong_count(&target), 1);
    });
}

/// What a thread hands over with nothing to order it but the inbox.
#[test]
fn what_is_posted_is_seen_whole_and_in_order() {
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
