use super::*;
use crate::TenantLimits;
use std::sync::{
    Barrier,
    atomic::{AtomicUsize, Ordering},
};

fn tenant(name: &str, queue: usize) -> Arc<Tenant> {
    Tenant::new(
        TenantId::new(),
        name.parse().unwrap(),
        TenantLimits {
            queue,
            ..TenantLimits::default()
        },
    )
}

/// Starts a job without waiting for it; it is queued when this returns.
fn spawn<R: Send + 'static>(
    executor: &Arc<Executor>,
    tenant: &Arc<Tenant>,
    job: impl FnOnce() -> R + Send + 'static,
) -> tokio::task::JoinHandle<Result<R, ExecutorError>> {
    let (executor, tenant) = (executor.clone(), tenant.clone());
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    tokio::spawn(async move { executor.run(&tenant, job).await })
}

/// Starts a job that runs until `gate` opens, and waits until it runs.
async fn hold(
    executor: &Arc<Executor>,
    tenant: &Arc<Tenant>,
    gate: &Arc<Barrier>,
) -> tokio::task::JoinHandle<Result<(), ExecutorError>> {
    let (gate, (begun, begins)) = (gate.clone(), oneshot::channel());
    let job = spawn(executor, tenant, move || {
        begun.send(()).unwrap();
        gate.wait();
    });
    begins.await.unwrap();
    job
}

#[tokio::test]
async fn a_tenant_that_fills_its_share_leaves_the_others_theirs() {
    let executor = Arc::new(Executor::start(3).unwrap());
    let (loud, quiet) = (tenant("loud", 10), tenant("quiet", 10));
    let gate = Arc::new(Barrier::new(3));
    let loud_jobs = [
        hold(&executor, &loud, &gate).await,
        hold(&executor, &loud, &gate).await,
    ];
    let more: Vec<_> = (0..12)
        .map(|n| spawn(&executor, &loud, move || n))
        .collect();
    // All its threads are taken, and yet the other tenant's jobs run.
    for n in 0..100 {
        assert_eq!(executor.run(&quiet, move || n).await, Ok(n));
    }
    assert_eq!(executor.waiting(), 10, "the queue is bounded");
    gate.wait();
    for job in loud_jobs {
        job.await.unwrap().unwrap();
    }
    let mut done = 0;
    for job in more {
        match job.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error, ExecutorError::Busy(Busy::Tenant)),
        }
    }
    assert_eq!(done, 10);
    // A job is answered a moment before its thread puts its tenant away.
    for _ in 0..1000 {
        if executor.quick.shared.state.lock().tenants.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("something is kept of a tenant without jobs");
}

#[tokio::test]
async fn tenants_take_turns() {
    let executor = Arc::new(Executor::start(2).unwrap());
    let tenants = [tenant("a", 100), tenant("b", 100), tenant("c", 100)];
    let gates = [(); 2].map(|()| Arc::new(Barrier::new(2)));
    // Both threads are held while the queues fill, and one of them to the end: a thread that is taken off its core with a tenant's job would
    // let that tenant's others wait.
    let filling = hold(&executor, &tenant("one", 1), &gates[0]).await;
    let throughout = hold(&executor, &tenant("two", 1), &gates[1]).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut jobs = Vec::new();
    for tenant in &tenants {
        for _ in 0..20 {
            let (order, id) = (order.clone(), tenant.id());
            jobs.push(spawn(&executor, tenant, move || order.lock().push(id)));
        }
    }
    while executor.waiting() < 60 {
        tokio::task::yield_now().await;
    }
    gates[0].wait();
    for job in jobs.into_iter().chain([filling]) {
        job.await.unwrap().unwrap();
    }
    gates[1].wait();
    throughout.await.unwrap().unwrap();
    let order = order.lock();
    for tenant in &tenants {
        let early = order
            .iter()
            .take(30)
            .filter(|id| **id == tenant.id())
            .count();
        assert_eq!(early, 10, "first come first served would be 20, 10, 0");
    }
}

#[tokio::test]
async fn who_has_half_of_the_threads_waits_for_those_who_have_less() {
    let executor = Arc::new(Executor::start(4).unwrap());
    let [loud, louder, quiet] = ["loud", "louder", "quiet"].map(|name| tenant(name, 10));
    let (gate, first) = (Arc::new(Barrier::new(4)), Arc::new(Barrier::new(2)));
    let mut holders = vec![hold(&executor, &louder, &first).await];
    for tenant in [&loud, &loud, &louder] {
        holders.push(hold(&executor, tenant, &gate).await);
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut jobs = Vec::new();
    for (waiting, tenant) in [&loud, &quiet].into_iter().enumerate() {
        let (order, id) = (order.clone(), tenant.id());
        jobs.push(spawn(&executor, tenant, move || order.lock().push(id)));
        while executor.waiting() <= waiting {
            tokio::task::yield_now().await;
        }
    }
    // One thread becomes free: the quiet tenant has it, although it came last.
    first.wait();
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    gate.wait();
    for holder in holders {
        holder.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock(), [quiet.id(), loud.id()]);
}

#[tokio::test]
async fn jobs_nobody_waits_for_are_not_run_and_panics_stay_inside() {
    let executor = Arc::new(Executor::start(2).unwrap());
    let acme = tenant("acme", 10);
    let gate = Arc::new(Barrier::new(2));
    let holder = hold(&executor, &acme, &gate).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let abandoned: Vec<_> = (0..5)
        .map(|_| {
            let ran = ran.clone();
            spawn(&executor, &acme, move || ran.fetch_add(1, Ordering::SeqCst))
        })
        .collect();
    while executor.waiting() < 5 {
        tokio::task::yield_now().await;
    }
    for job in abandoned {
        job.abort();
        assert!(job.await.is_err());
    }
    gate.wait();
    holder.await.unwrap().unwrap();
    let panicked = executor
        .run(&acme, || -> u32 {
            std::panic::panic_any("expected by a test")
        })
        .await;
    assert_eq!(panicked, Err(ExecutorError::Panicked));
    assert_eq!(
        executor.run(&acme, || 7).await,
        Ok(7),
        "the thread lives on"
    );
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_eq!(executor.waiting(), 0);
}

#[tokio::test]
async fn stopping_answers_those_who_wait() {
    let executor = Arc::new(Executor::start(2).unwrap());
    let acme = tenant("acme", 10);
    let gate = Arc::new(Barrier::new(2));
    let holder = hold(&executor, &acme, &gate).await;
    let waiting = spawn(&executor, &acme, || ());
    while executor.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    executor.quick.shared.state.lock().stopped = true;
    let forgotten = std::mem::take(&mut executor.quick.shared.state.lock().tenants);
    drop(forgotten);
    assert_eq!(waiting.await.unwrap(), Err(ExecutorError::Stopped));
    gate.wait();
    assert_eq!(holder.await.unwrap(), Ok(()));
    assert_eq!(
        executor.run(&acme, || ()).await,
        Err(ExecutorError::Stopped)
    );
}

/// Where a job runs, and at which priority below that of others.
fn place() -> (String, Option<i32>) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    let nice = rustix::process::getpriority_process(None).ok();
    (name, nice.filter(|_| cfg!(target_os = "linux")))
}

#[tokio::test]
async fn who_takes_long_steps_back_with_what_waits_already() {
    let executor = Arc::new(Executor::start(2).unwrap());
    let (slow, quick) = (tenant("slow", 10), tenant("quick", 10));
    let ours = rustix::process::getpriority_process(None).unwrap();
    let is_quick = |(name, nice): (String, Option<i32>)| {
        assert!(name.starts_with("ambit-pure-"), "{name}");
        assert!(nice.is_none_or(|nice| nice == ours));
    };
    is_quick(executor.run(&slow, place).await.unwrap());
    let gate = Arc::new(Barrier::new(2));
    let running = hold(&executor, &slow, &gate).await;
    let waiting = spawn(&executor, &slow, place);
    while executor.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    slow.takes_long();
    gate.wait();
    running.await.unwrap().unwrap();
    for steps_back in [
        waiting.await.unwrap().unwrap(),
        executor.run(&slow, place).await.unwrap(),
    ] {
        let (name, nice) = steps_back;
        assert!(name.starts_with("ambit-slow-"), "{name}");
        assert!(
            nice.is_none_or(|nice| nice > ours || ours == 19),
            "{nice:?}"
        );
    }
    is_quick(executor.run(&quick, place).await.unwrap());
}

#[tokio::test]
async fn a_tenant_has_no_more_jobs_under_way_for_being_slow() {
    let executor = Arc::new(Executor::start(3).unwrap());
    let (slow, quick) = (tenant("slow", 10), tenant("quick", 10));
    let gate = Arc::new(Barrier::new(3));
    let running = [
        hold(&executor, &slow, &gate).await,
        hold(&executor, &slow, &gate).await,
    ];
    slow.takes_long();
    let third = spawn(&executor, &slow, place);
    // Everybody else's go on; the third finds no place as long as those two have theirs.
    for n in 0..100 {
        assert_eq!(executor.run(&quick, move || n).await, Ok(n));
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(!third.is_finished());
    gate.wait();
    for job in running {
        job.await.unwrap().unwrap();
    }
    let (name, _) = third.await.unwrap().unwrap();
    assert!(name.starts_with("ambit-slow-"), "{name}");
}
