//! The cases, one topic a file, and the lists that make tests of them.

pub mod accounts;
pub mod any_bytes;
pub mod apart;
pub mod back_pressure;
pub mod batching;
pub mod block_state;
pub mod budget;
pub mod cancel;
pub mod checkpoint;
pub mod come_and_go;
pub mod copies;
pub mod deadline;
pub mod differences;
pub mod failing;
pub mod foreign;
pub mod gradients;
pub mod isolation;
pub mod kinds;
pub mod learning;
pub mod life;
pub mod loss;
pub mod many_devices;
pub mod many_pools;
pub mod memory;
pub mod model;
pub mod optimizer;
pub mod order;
pub mod panics;
pub mod policies;
pub mod priority;
pub mod pytorch;
pub mod ragged;
pub mod replace;
pub mod shapes;
pub mod shutdown;
pub mod split;
pub mod start;
pub mod state;
pub mod stress;
pub mod tensors;
pub mod training;
pub mod unlike_devices;
pub mod verify;
pub mod warm_up;

/// Makes a test of each case that any backend can run, for one [`Subject`](crate::Subject).
#[macro_export]
macro_rules! conformance {
    ($subject:ty) => {
        $crate::cases! { $subject, life:
            outputs_come_back,
            wait_timeout_keeps_the_ticket,
            tickets_change_threads,
            tickets_can_be_awaited,
            front_ends_submit_through_the_door,
            front_ends_need_no_tensor_type,
            a_refused_request_comes_back_whole,
            several_inputs_and_outputs_keep_their_places,
            inputs_can_be_named,
            outputs_are_found_by_a_dummy_run,
            dummy_runs_are_as_many_as_a_block_needs,
            dummy_runs_have_no_more_rows_than_batches,
            many_callers_get_their_own_rows,
            outputs_are_copied_back_by_senders,
        }
        $crate::cases! { $subject, batching:
            batches_hold_what_has_gathered,
            urgent_tasks_come_first_within_a_pool,
            a_partial_batch_is_cut_at_its_delay,
            a_pool_that_has_no_batch_after_all_is_looked_at_again,
            the_delay_counts_from_the_oldest_task,
            only_equal_free_dims_share_a_batch,
            large_tasks_are_refused,
            classes_of_tasks_have_pools_of_their_own,
            a_full_queue_waits_for_no_company,
        }
        $crate::cases! { $subject, split:
            large_tasks_are_split_and_joined,
            parts_let_others_in_between,
            a_split_task_has_one_place_and_one_end,
            a_split_task_that_has_begun_does_not_expire,
            a_split_task_is_cancelled_between_its_parts,
            a_part_that_cannot_be_cut_fails_its_task_only,
            parts_fit_the_ceiling,
            a_backward_task_is_split_only_if_that_is_wanted,
        }
        $crate::cases! { $subject, model:
            batches_are_those_of_the_rules,
        }
        $crate::cases! { $subject, priority:
            pools_are_served_in_sorted_order,
            the_most_urgent_is_next_without_prefetch,
            an_urgent_task_waits_for_the_prefetched_and_no_more,
            a_cancelled_urgent_task_lends_no_urgency,
            an_urgent_task_that_ran_lends_no_urgency,
            pools_have_a_priority,
        }
        $crate::cases! { $subject, unlike_devices:
            a_slow_device_leaves_to_a_fast_one_what_that_does_sooner,
        }
        $crate::cases! { $subject, policies:
            a_policy_hears_of_tasks_that_expire_in_their_batch,
            a_policy_hears_of_tasks_whose_batch_is_taken_apart,
            a_policy_hears_of_parts_that_do_not_run,
            a_policy_hears_of_tasks_whose_block_leaves,
            devices_that_share_a_pool_agree_on_its_order,
        }
        $crate::cases! { $subject, order:
            an_urgent_task_takes_few_others_along,
            flows_share_the_device_by_weight,
            waiting_makes_urgent_under_aging,
            answers_come_in_time_or_not_at_all,
            batches_say_why_they_were_cut,
        }
        $crate::cases! { $subject, shapes:
            tasks_of_several_lengths_share_a_batch,
            padding_is_the_value_of_the_rule,
            padded_tasks_get_their_own_numbers,
            batches_are_bounded_by_elements,
            padding_keeps_the_order_of_work,
            a_padded_batch_that_fails_is_taken_apart,
            the_rest_of_a_padded_batch_runs,
            a_backward_pass_is_padded,
            padding_that_is_not_masked_is_found,
            padding_that_cannot_be_honoured_is_refused,
        }
        $crate::cases! { $subject, ragged:
            tasks_are_laid_end_to_end,
            ragged_tasks_get_their_own_numbers,
            ragged_batches_are_bounded_by_elements,
            a_ragged_batch_that_fails_is_taken_apart,
            the_rest_of_a_ragged_batch_runs,
            a_backward_pass_is_laid_end_to_end,
            elements_that_are_mixed_up_are_found,
            a_warm_up_is_laid_end_to_end,
            what_cannot_be_laid_end_to_end_is_refused,
            outputs_that_are_not_laid_end_to_end_are_errors,
            a_block_is_replaced_by_one_that_is_called_alike,
        }
        $crate::cases! { $subject, foreign:
            a_slow_waker_delays_no_deadline,
            hostile_errors_harm_their_batch_only,
            an_observer_that_hangs_keeps_no_answer,
            an_observer_that_parks_keeps_nobody_asleep,
            work_with_blocks_starves_nobody,
        }
        $crate::cases! { $subject, isolation:
            bad_tasks_harm_nobody,
            rows_and_indices_are_checked,
        }
        $crate::cases! { $subject, cancel:
            a_cancelled_task_never_runs,
            a_cancelled_task_gives_its_capacity_back,
            a_cancelled_task_lets_the_next_caller_in,
            a_task_that_was_cut_runs,
            a_split_task_is_cancelled_whole,
        }
        $crate::cases! { $subject, deadline:
            waiting_tasks_expire_while_the_device_is_busy,
            each_deadline_counts_in_any_order,
            prefetched_tasks_expire_while_the_device_is_busy,
            the_rest_of_a_prefetched_batch_runs,
            a_task_that_runs_does_not_expire,
            extreme_deadlines,
            a_deadline_can_be_a_time,
            a_pool_has_a_deadline_and_a_latest_one,
            tasks_that_waited_for_the_start_expire,
            what_had_expired_is_not_called_shut_down,
            callers_who_wait_for_room_have_deadlines,
            a_split_task_expires_whole,
            a_lone_task_runs_before_its_deadline,
        }
        $crate::cases! { $subject, failing:
            blocks_that_fail_harm_their_batch_only,
            a_wrong_number_of_outputs_is_an_error,
            outputs_that_break_their_schema_are_errors,
            devices_that_fail_harm_that_batch_only,
            a_failed_join_harms_that_task_only,
            an_observer_that_panics_harms_nobody,
            a_waker_that_panics_harms_nobody,
        }
        $crate::cases! { $subject, panics:
            a_pool_that_panics_is_closed,
            a_pool_that_panics_at_the_end_harms_nobody,
            a_device_that_panics_at_submit_refuses_that_task,
            a_device_thread_that_panics_answers_everybody,
        }
        $crate::cases! { $subject, apart:
            only_the_culprit_fails,
            a_culprit_is_found_in_a_large_batch,
            several_culprits_are_found,
            many_culprits_harm_nobody_else,
            a_broken_block_is_given_up_soon,
            running_again_can_be_switched_off,
            a_backward_pass_is_never_run_again,
            what_a_device_loses_is_made_again,
            outputs_that_are_not_finite_fail_their_tasks,
            an_urgent_task_goes_before_the_parts,
            a_drain_runs_the_parts,
            an_abort_answers_the_parts,
            tasks_do_not_expire_between_two_runs,
            a_split_task_survives_its_neighbour,
        }
        $crate::cases! { $subject, memory:
            all_succeed_in_batches_that_fit,
            tasks_of_several_rows_find_their_ceiling,
            what_was_gathered_too_large_is_not_run,
            a_gather_that_does_not_fit_is_halved,
            nobody_waits_for_more_rows_than_there_is_room_for,
            halves_that_never_ran_expire,
            a_task_that_does_not_fit_gets_its_error,
            a_part_that_does_not_fit_is_cut_again,
            a_row_that_does_not_fit_fails_its_task,
            a_backward_pass_that_does_not_fit_fails_once,
        }
        $crate::cases! { $subject, back_pressure:
            a_full_queue_gives_the_task_back,
            submit_blocks_until_there_is_room,
            all_who_await_room_get_in,
            a_caller_who_gives_up_passes_its_turn_on,
            a_part_that_need_not_run_gives_its_place_back,
            room_goes_to_the_most_urgent_caller,
            a_reserve_keeps_room_for_the_urgent,
            rows_are_bounded_as_well_as_tasks,
            an_urgent_task_takes_the_place_of_the_least_urgent,
        }
        $crate::cases! { $subject, shutdown:
            drain_runs_all_that_was_accepted,
            abort_answers_what_waits,
            stopping_twice_is_harmless,
            an_abort_cuts_a_drain_short,
            a_runtime_stopped_before_its_start_does_not_start,
            what_never_starts_answers_its_tasks,
            a_limit_that_passes_answers_everybody,
            a_drain_shows_in_the_health,
            a_shutdown_can_be_awaited,
            a_drain_leaves_the_blocks_to_be_saved,
            a_drain_ends_with_the_last_task_however_it_ends,
            a_drop_gives_a_block_that_hangs_up,
            a_block_cannot_wait_for_its_runtime,
            callers_who_wait_for_room_are_let_go,
            a_drop_answers_and_joins,
            nothing_gets_in_after_the_end,
            a_waker_cannot_wait_for_its_runtime,
            a_runtime_that_is_stopped_while_it_starts,
        }
        $crate::cases! { $subject, loss:
            a_block_that_never_returns_is_given_up_at_the_limit,
            callers_who_wait_for_room_hear_of_the_loss,
            a_device_that_hangs_anywhere_is_given_up,
            a_drop_waits_no_longer_than_the_limit,
            batches_within_the_limit_go_on,
            another_device_takes_the_pools_over,
            a_pool_follows_the_clock_of_its_new_runtime,
            pools_have_one_owner,
            pools_of_classes_are_taken_over_too,
            a_device_that_dies_fails_what_is_in_flight,
            a_limit_of_nothing_is_refused,
        }
        $crate::cases! { $subject, come_and_go:
            a_block_comes_and_goes,
            what_was_accepted_runs_before_the_block_goes,
            a_block_goes_with_its_last_task_however_that_ends,
            an_abort_takes_a_block_out_after_its_batch,
            a_limit_ends_the_wait_for_a_block,
            callers_who_wait_for_room_hear_of_the_removal,
            a_block_is_freed_by_who_lets_it_go,
            observers_hear_of_pools_that_come_and_go,
            the_end_of_the_runtime_ends_a_removal,
            the_loss_of_the_device_ends_a_removal,
            a_pool_under_load_does_not_notice,
        }
        $crate::cases! { $subject, replace:
            a_replacement_leaves_no_gap,
            nothing_of_the_old_block_is_answered_later,
            a_block_that_cannot_come_leaves_nothing_behind,
        }
        $crate::cases! { $subject, warm_up:
            a_warm_up_comes_before_the_first_task,
            a_warm_up_that_fails_is_told,
            a_warm_up_teaches_what_batches_take,
        }
        $crate::cases! { $subject, budget:
            blocks_beyond_the_budget_come_and_go,
            a_reload_holds_up_nobody_else,
            a_block_leaves_between_two_batches,
            what_a_block_has_learned_comes_back,
            a_block_that_cannot_be_saved_stays,
            a_reload_that_fails_is_told,
            blocks_that_are_off_are_removed_and_replaced,
            an_end_answers_those_who_wait_for_a_block,
            a_block_larger_than_the_budget_is_refused,
            a_block_that_is_off_warms_up_when_it_comes,
            nothing_is_lost_among_blocks_that_come_and_go,
        }
        $crate::cases! { $subject, many_devices:
            whoever_comes_free_first_cuts,
            tasks_of_a_stuck_device_go_on,
            tasks_of_a_dead_device_go_on,
            one_hangs_and_one_dies_under_load,
            a_task_goes_on_once,
            a_device_joins_and_leaves,
            one_of_two_is_shut_down,
            backward_passes_have_one_home,
        }
        $crate::cases! { $subject, start:
            ready_is_told,
            tasks_may_come_before_the_start,
            a_runtime_can_use_its_callers_thread,
            a_device_that_cannot_be_bound_is_told,
            a_block_that_cannot_be_loaded_is_told,
            names_and_settings_are_checked,
            blocks_and_passes_of_others_are_refused,
            a_block_that_cannot_be_served_leaves_nothing_behind,
        }
        $crate::cases! { $subject, state:
            a_state_is_one_between_two_batches,
            a_state_is_restored_before_the_start,
            state_goes_in_and_out,
            work_that_fails_is_told,
        }
        $crate::cases! { $subject, accounts:
            every_fate_is_counted,
            an_answer_is_counted_before_it_is_given,
            a_split_task_is_counted_once,
            times_are_those_of_the_clock,
            gather_and_scatter_are_timed,
        }
        $crate::cases! { $subject, verify:
            a_block_that_keeps_rows_apart_is_left_in_peace,
            a_block_that_mixes_rows_up_is_found_out,
            what_cannot_be_compared_is_a_finding,
            a_backward_pass_runs_again_without_its_culprits,
        }
        $crate::cases! { $subject, stress:
            nothing_is_lost_with_a_drain,
            nothing_is_lost_with_an_abort,
        }
    };
}

/// Makes a test of each case about learning, for one [`Learner`](crate::Learner).
#[macro_export]
macro_rules! training {
    ($subject:ty) => {
        $crate::cases! { $subject, training:
            gradients_are_those_of_finite_differences,
            batched_equals_single,
            a_batch_is_one_step,
            only_an_optimizer_changes_parameters,
            training_continues_from_a_state,
            a_trained_block_comes_back_as_it_left,
            states_that_do_not_fit_are_told,
        }
        $crate::cases! { $subject, copies:
            copies_follow_the_block_that_is_trained,
        }
        $crate::cases! { $subject, checkpoint:
            a_restart_goes_on_from_the_newest_whole_file,
            a_checkpoint_that_does_not_fit_changes_nothing,
            the_checkpointer_ends_with_its_owner,
            the_last_state_is_saved_after_a_drain,
            a_checkpointer_is_left_behind_with_a_block_that_hangs,
            blocks_and_files_must_be_the_same_ones,
            blocks_are_saved_one_by_one,
        }
        $crate::cases! { $subject, tensors:
            scatter_gives_back_what_was_gathered,
            split_and_join_are_each_others_inverse,
            a_tensor_beyond_the_limit_is_refused_with_a_typed_error,
            a_block_beyond_the_limit_is_not_loaded,
            plain_bytes_survive_the_way_there_and_back,
            parts_are_filled_up_and_cut_back,
            elements_stay_in_other_dims,
            the_first_index_out_of_range_is_found,
            compute_threads_are_checked_when_the_device_thread_starts,
            a_block_gives_the_same_with_one_compute_thread_and_with_several,
        }
        $crate::cases! { $subject, kinds:
            every_kind_runs_and_gives_what_its_schema_says,
            settings_that_do_not_fit_are_named,
            an_unknown_kind_is_named_beside_the_known_ones,
            a_kind_is_registered_once,
            parameters_come_from_a_file_where_one_is_given,
            blocks_that_share_a_file_read_it_once,
            a_weights_file_that_is_not_used_is_refused,
        }
        $crate::cases! { $subject, gradients:
            of_an_ffn,
            of_a_transformer,
            of_det_dropout,
            nop_passes_inputs_and_gradients_on,
            dropped_features_do_not_reach_the_output,
            a_batch_gives_the_gradients_of_its_rows_alone,
            without_an_optimizer_nothing_changes,
            inputs_without_a_gradient_get_zeros,
            wrong_gradients_are_refused,
            a_gradient_that_is_not_a_number_does_not_touch_the_parameters,
            a_block_that_is_not_loaded_says_so,
            a_block_for_inference_refuses_a_backward_pass,
        }
        $crate::cases! { $subject, optimizer:
            adamw_follows_the_published_formula,
            sgd_follows_its_formula,
            the_schedule_scales_each_step,
            a_large_gradient_is_scaled_down_to_the_norm,
            the_norm_goes_over_all_parameters,
            training_goes_on_after_a_restart_as_if_there_had_been_none,
        }
        $crate::cases! { $subject, pytorch:
            optimizers_agree_with_pytorch,
            batch_norm_agrees_with_pytorch,
        }
        $crate::cases! { $subject, differences:
            gradients_that_are_cut_off_are_named,
        }
        $crate::cases! { $subject, learning:
            settings_of_an_optimizer_are_checked,
            a_step_that_would_destroy_a_parameter_is_not_taken,
            small_steps_of_half_precision_add_up,
            steps_are_counted_for_each_parameter,
            derived_parameters_are_never_out_of_date,
            parameters_without_a_gradient_are_named,
            an_answer_stays_as_it_is,
            gradients_that_are_not_finite_are_refused,
            a_gradient_that_is_too_large_fails_its_own_task,
            an_optimizer_without_parameters_is_refused,
            parameters_are_not_converted_to_what_they_are_not,
            dropout_goes_on_after_a_restart,
            a_state_of_another_optimizer_is_refused,
            training_can_be_followed,
            a_schedule_of_an_application_s_own,
            an_application_s_notes_are_part_of_the_state,
            a_backward_pass_gives_its_outputs_when_asked,
        }
        $crate::cases! { $subject, block_state:
            the_parts_of_a_state_have_plain_names,
            the_seed_decides_the_first_parameters,
            inference_sees_restored_and_trained_parameters,
            missing_parts_are_named_and_keep_their_value,
            a_state_that_does_not_fit_replaces_nothing,
        }
        $crate::cases! { $subject, any_bytes:
            a_block_of_any_settings_is_refused_or_loads,
            any_text_is_refused_or_settings,
            weights_that_were_written_over_are_refused_or_load,
        }
    };
}

/// Makes a test of each case about blocks that needs no backward pass, for one [`Learner`](crate::Learner) whose blocks have
/// none. The others of [`training!`] print why they are skipped.
#[macro_export]
macro_rules! inference {
    ($subject:ty, $reason:literal) => {
        $crate::skipped! { $reason, training:
            gradients_are_those_of_finite_differences,
            batched_equals_single,
            a_batch_is_one_step,
            only_an_optimizer_changes_parameters,
            training_continues_from_a_state,
            a_trained_block_comes_back_as_it_left,
            states_that_do_not_fit_are_told,
        }
        $crate::skipped! { $reason, checkpoint:
            a_restart_goes_on_from_the_newest_whole_file,
            a_checkpoint_that_does_not_fit_changes_nothing,
            the_checkpointer_ends_with_its_owner,
        }
        $crate::cases! { $subject, tensors:
            scatter_gives_back_what_was_gathered,
            split_and_join_are_each_others_inverse,
            a_tensor_beyond_the_limit_is_refused_with_a_typed_error,
            a_block_beyond_the_limit_is_not_loaded,
            plain_bytes_survive_the_way_there_and_back,
            parts_are_filled_up_and_cut_back,
            elements_stay_in_other_dims,
            the_first_index_out_of_range_is_found,
            compute_threads_are_checked_when_the_device_thread_starts,
            a_block_gives_the_same_with_one_compute_thread_and_with_several,
        }
        $crate::cases! { $subject, kinds:
            every_kind_runs_and_gives_what_its_schema_says,
            settings_that_do_not_fit_are_named,
            an_unknown_kind_is_named_beside_the_known_ones,
            a_kind_is_registered_once,
        }
        $crate::skipped! { $reason, files:
            parameters_come_from_a_file_where_one_is_given,
            blocks_that_share_a_file_read_it_once,
            a_weights_file_that_is_not_used_is_refused,
        }
        $crate::skipped! { $reason, gradients:
            of_an_ffn,
            of_a_transformer,
            of_det_dropout,
            nop_passes_inputs_and_gradients_on,
            dropped_features_do_not_reach_the_output,
            a_batch_gives_the_gradients_of_its_rows_alone,
            without_an_optimizer_nothing_changes,
            inputs_without_a_gradient_get_zeros,
            wrong_gradients_are_refused,
            a_gradient_that_is_not_a_number_does_not_touch_the_parameters,
            a_block_that_is_not_loaded_says_so,
            a_block_for_inference_refuses_a_backward_pass,
        }
        $crate::skipped! { $reason, optimizer:
            adamw_follows_the_published_formula,
            sgd_follows_its_formula,
            the_schedule_scales_each_step,
            a_large_gradient_is_scaled_down_to_the_norm,
            the_norm_goes_over_all_parameters,
            training_goes_on_after_a_restart_as_if_there_had_been_none,
        }
        $crate::skipped! { $reason, block_state:
            the_parts_of_a_state_have_plain_names,
            the_seed_decides_the_first_parameters,
            inference_sees_restored_and_trained_parameters,
            missing_parts_are_named_and_keep_their_value,
            a_state_that_does_not_fit_replaces_nothing,
        }
        $crate::cases! { $subject, any_bytes:
            a_block_of_any_settings_is_refused_or_loads,
            any_text_is_refused_or_settings,
            weights_that_were_written_over_are_refused_or_load,
        }
    };
}
