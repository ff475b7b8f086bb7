//! What a page hands over arrives whole and in order, or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{io::AsyncReadExt as _, sync::oneshot};

use super::*;

const PAGE: &str = "main";

/// What was read, or why it was not.
type Read = std::result::Result<Vec<u8>, std::io::ErrorKind>;

/// Reads everything, and tells what that was.
fn reading() -> (impl FnOnce(Pieces) -> Work, oneshot::Receiver<Read>) {
    let (tell, told) = oneshot::channel();
    let work = |mut pieces: Pieces| {
        let work: Work = Box::pin(async move {
            let mut all = Vec::new();
            let read = pieces.read_to_end(&mut all).await.map_err(|error| error.kind());
            let answer = match read {
                Ok(_) => Ok(Receipt { id: Uuid::nil(), kind: "file".into(), key: None }),
                Err(_) => Err(Error::argument("the source failed")),
            };
            let _ = tell.send(read.map(|_| all));
            answer
        });
        work
    };
    (work, told)
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<Receipt>> + Send>>;

fn code<T>(result: Result<T>) -> &'static str {
    result.err().expect("it is refused").code()
}

#[tokio::test]
async fn pieces_arrive_in_order_and_repeats_are_passed_over() {
    let transfers = Transfers::default();
    let (work, told) = reading();
    let id = transfers.begin(PAGE, 6, work).unwrap();
    assert_eq!(transfers.piece(PAGE, id, 0, "01".into()).await.unwrap(), 2);
    assert_eq!(transfers.piece(PAGE, id, 0, "01".into()).await.unwrap(), 2, "its answer was lost, and it came again");
    assert_eq!(transfers.stands(PAGE, id).await.unwrap(), 2);
    assert_eq!(transfers.piece(PAGE, id, 2, "2345".into()).await.unwrap(), 6);
    assert_eq!(transfers.finish(PAGE, id).await.unwrap().kind, "file");
    assert_eq!(told.await.unwrap().unwrap(), b"012345");
    assert_eq!(code(transfers.finish(PAGE, id).await), "invalid_argument");
}

#[tokio::test]
async fn an_empty_file_is_one_too() {
    let transfers = Transfers::default();
    let (work, told) = reading();
    let id = transfers.begin(PAGE, 0, work).unwrap();
    transfers.finish(PAGE, id).await.unwrap();
    assert!(told.await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_transfer_that_goes_wrong_is_an_error_to_the_reader_and_never_a_shorter_file() {
    for wrong in ["a gap", "too much", "too large", "too early", "aborted", "page gone"] {
        let transfers = Transfers::default();
        let (work, told) = reading();
        let id = transfers.begin(PAGE, 6, work).unwrap();
        transfers.piece(PAGE, id, 0, "01".into()).await.unwrap();
        let result = match wrong {
            "a gap" => transfers.piece(PAGE, id, 3, "3".into()).await.map(drop),
            "too much" => transfers.piece(PAGE, id, 2, "23456".into()).await.map(drop),
            "too large" => transfers.piece(PAGE, id, 2, vec![0; LARGEST + 1].into()).await.map(drop),
            "too early" => transfers.finish(PAGE, id).await.map(drop),
            "aborted" => {
                transfers.abort(PAGE, id).await;
                transfers.abort(PAGE, id).await;
                transfers.stands(PAGE, id).await.map(drop)
            }
            _ => {
                transfers.page_gone("another");
                assert_eq!(transfers.stands(PAGE, id).await.unwrap(), 2);
                transfers.page_gone(PAGE);
                transfers.stands(PAGE, id).await.map(drop)
            }
        };
        assert_eq!(code(result), "invalid_argument", "{wrong}");
        assert_eq!(told.await.unwrap(), Err(std::io::ErrorKind::UnexpectedEof), "{wrong}");
        assert_eq!(code(transfers.piece(PAGE, id, 2, "2".into()).await), "invalid_argument", "{wrong}");
    }
}

#[tokio::test]
async fn what_the_entry_is_refused_for_is_the_answer_to_the_next_piece_or_to_the_end() {
    for at_the_end in [false, true] {
        let transfers = Transfers::default();
        let id = transfers.begin(PAGE, 3, |_pieces| async { Err(Error::DiskFull) }).unwrap();
        let mut answers = Vec::new();
        if !at_the_end {
            // The first may have been put down before it was refused.
            for offset in 0..3 {
                match transfers.piece(PAGE, id, offset, "x".into()).await {
                    Ok(_) => {}
                    Err(error) => answers.push(error.code()),
                }
            }
        } else {
            let transfer = transfers.get(PAGE, id).unwrap();
            transfer.state.lock().await.received = 3;
            answers.push(code(transfers.finish(PAGE, id).await));
        }
        assert_eq!(answers[0], "disk_full");
    }
}

#[tokio::test]
async fn a_page_hands_over_only_what_is_its_own_and_not_too_much_at_once() {
    let transfers = Transfers::default();
    let begin = |owner: &str| transfers.begin(owner, 1, |_pieces| std::future::pending());
    let id = begin(PAGE).unwrap();
    for result in [
        transfers.piece("another", id, 0, "x".into()).await.map(drop),
        transfers.finish("another", id).await.map(drop),
        transfers.stands("another", id).await.map(drop),
    ] {
        assert_eq!(code(result), "invalid_argument");
    }
    transfers.abort("another", id).await;
    assert_eq!(transfers.stands(PAGE, id).await.unwrap(), 0);
    for _ in 1..AT_ONCE {
        begin(PAGE).unwrap();
    }
    assert_eq!(code(begin(PAGE)), "invalid_argument");
    begin("another").unwrap();
    transfers.page_gone(PAGE);
    begin(PAGE).unwrap();
}

#[tokio::test]
async fn a_piece_is_taken_only_when_there_is_room_for_it() {
    let transfers = Arc::new(Transfers::default());
    let (go, mut may_go) = mpsc::channel::<()>(1);
    let work = move |mut pieces: Pieces| async move {
        let mut byte = [0];
        while may_go.recv().await.is_some() {
            pieces.read_exact(&mut byte).await.map_err(|_| Error::Closed)?;
        }
        Ok(Receipt { id: Uuid::nil(), kind: "file".into(), key: None })
    };
    let id = transfers.begin(PAGE, 8, work).unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let (their, counting) = (Arc::clone(&transfers), Arc::clone(&taken));
    let handing = tokio::spawn(async move {
        for offset in 0..8 {
            their.piece(PAGE, id, offset, "x".into()).await.unwrap();
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    for read in 0..7 {
        // Let everything run that can.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let ahead = taken.load(Ordering::SeqCst) - read;
        assert!(ahead <= 2, "{ahead} pieces are held");
        go.send(()).await.unwrap();
    }
    go.send(()).await.unwrap();
    handing.await.unwrap();
    drop(go);
    transfers.finish(PAGE, id).await.unwrap();
}
