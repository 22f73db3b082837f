//! The quick form of every row of faults; `cargo xtask faults` runs the full one.

use ddpm_tests::faults::{Form, rows};

#[track_caller]
fn holds(number: u8) {
    let found = rows().into_iter().find(|row| row.number == number);
    let row = found.unwrap_or_else(|| panic!("there is no row {number}"));
    let ran = row.run(Form::Quick);
    match ran.outcome {
        Ok(held) => assert!(held.count > 0, "row {number} tried nothing"),
        Err(error) => panic!("row {number}, {}: {error:#}", row.fault),
    }
}

macro_rules! held {
    ($($name:ident = $number:literal;)*) => {
        $(#[test]
        fn $name() {
            holds($number);
        })*

        #[test]
        fn every_row_is_tested() {
            let tested = [$($number),*];
            let untested: Vec<u8> = rows()
                .into_iter()
                .filter(|row| !row.full_only && !tested.contains(&row.number))
                // That of ranks, which have tests of their own.
                .filter(|row| row.number != 19)
                .map(|row| row.number)
                .collect();
            assert!(untested.is_empty(), "{untested:?}");
        }
    };
}

held! {
    killed_at_each_point = 1;
    killed_at_random_times = 2;
    disk_that_fails = 3;
    files_that_were_cut = 4;
    bits_that_flipped = 5;
    checkpoints_mixed_up = 6;
    signals_in_a_step = 7;
    two_processes_on_one_run = 8;
    numbers_that_go_bad = 9;
    accumulation_changes_nothing = 10;
    repetition_changes_nothing = 11;
    bad_images_in_a_set = 12;
    bombs = 13;
    hostile_tensors = 14;
    mutations = 15;
    slips_in_keys = 16;
    odd_surroundings = 17;
    hostile_pickles = 23;
}
