import pytest

from ehmfaces.errors import EHMFacesError, InputError, ModelError
from ehmfaces.seeds import person_seed
from ehmfaces.ui.session import Session, on_gpu


def test_models_are_loaded_once_and_late(make_session):
    session = make_session()
    assert not session.models.loaded
    assert session.pipeline is session.pipeline
    assert session.cutout("deeplab") is session.cutout("deeplab")


def test_a_missing_model_is_a_sentence_and_not_remembered(tmp_path):
    session = Session(str(tmp_path))
    session.preload()
    for _ in range(2):
        with pytest.raises(ModelError, match=r"config\.json"):
            _ = session.pipeline


@pytest.mark.parametrize("setting", [("nope", "none"), ("ehm", "#12")])
def test_wrong_settings_are_refused(session, setting):
    with pytest.raises(EHMFacesError):
        session.renderer(*setting, 0.7, "const", "deeplab")


def test_an_unknown_cutout_is_refused(session):
    with pytest.raises(InputError, match="Known: deeplab, rembg"):
        session.cutout("u2")


@pytest.mark.parametrize("count", [None, 0, -1, 65, 1.5, float("nan"), float("inf")])
def test_counts_out_of_range_are_refused(session, count):
    with pytest.raises(InputError, match="from 1 to 64"):
        session.check_count(count, 64, "The number of faces")


def test_a_job_stops_when_asked_or_late(make_session):
    session = make_session(job_time_sec=3600.0)
    job = session.start_job("a")
    assert not job.should_stop()
    assert session.cancel_job("a")
    assert job.should_stop()
    assert not job.is_late
    session.end_job("a", job)
    assert not session.cancel_job("a")
    assert make_session(job_time_sec=-1.0).start_job("b").is_late


def test_the_end_of_an_old_job_leaves_the_new_one(session):
    old, new = session.start_job("k"), session.start_job("k")
    session.end_job("k", old)
    assert session.cancel_job("k")
    session.end_job("k", new)


def test_closing_stops_jobs_of_now_and_later(make_session):
    session = make_session()
    job, deadline = session.start_job("a"), session.deadline()
    assert not job.should_stop()
    assert not session.is_late(deadline)
    session.close()
    assert job.should_stop()
    assert session.start_job("b").should_stop()
    assert session.is_late(deadline)


def test_a_request_is_late_when_its_time_is_used_up(make_session):
    session = make_session(request_time_sec=-1.0)
    assert session.is_late(session.deadline())


def test_folders_of_requests_are_private_and_cannot_be_guessed(session):
    one, other = session.new_folder(), session.new_folder()
    assert one.stat().st_mode & 0o777 == 0o700
    assert len(one.name) == 32
    assert one.name != other.name


def test_without_zerogpu_a_function_stays_itself():
    assert on_gpu(person_seed) is person_seed
