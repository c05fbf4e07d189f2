-- What a project's own code keeps of an owner outside of threads, at a fixed path on the disk (SLACKWATER_HOME_DIR): files below home/,
-- with an id in the place of a thread's that is made from the owner. Limits, export, erasure and the sweep have them as all files.
alter table slackwater.files drop constraint files_path_check;
alter table slackwater.files add constraint files_path_check check (path ~ '^(uploads|outputs|workspace|home)/') not valid;
