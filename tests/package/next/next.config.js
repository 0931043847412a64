// Plain files, for any host.
export default { output: 'export' };
