-- Indexes of what is counted that were made before 0001 and 0005 said so: small blocks, for point look-ups, from now on.
ALTER TABLE seen MODIFY SETTING min_compress_block_size = 4096;
ALTER TABLE activity_seen MODIFY SETTING min_compress_block_size = 4096;
