package stack

import (
	"slices"
	"strings"
)

// missing are the features that a pod may have come to use where it runs and would not find where it is to go. A feature that is
// not known counts.
func missing(want, have []string) []string {
	var missing []string
	for _, feature := range want {
		if !slices.Contains(have, feature) && !slices.Contains(kernelsOwn(), feature) {
			missing = append(missing, feature)
		}
	}
	return missing
}

// kernelsOwn are the features in /proc/cpuinfo that no program can use: what the kernel has found out or set up for itself, some of it
// only from a version on, and what only a kernel may do. Processors that differ in these alone are the same to a pod.
func kernelsOwn() []string {
	return strings.Fields(`
		up art arch_perfmon pebs bts rep_good acc_power xtopology tsc_reliable constant_tsc nonstop_tsc nonstop_tsc_s3 tsc_known_freq
		cpuid extd_apicid amd_dcm aperfmperf rapl
		ring3mwait cpuid_fault cpb epb cat_l3 cat_l2 cdp_l3 cdp_l2 mba smba bmec invpcid_single hw_pstate proc_feedback sme sev sev_es sev_snp
		pti intel_ppin amd_ppin ssbd ibrs ibpb stibp ibrs_enhanced virt_ssbd amd_ssbd amd_ibrs amd_ibpb amd_stibp ibpb_ret
		perfmon_v2 amd_lbr_v2 amd_lbr_pmc_freeze
		tpr_shadow vnmi flexpriority ept vpid ept_ad vmmcall xenpv tdx_guest
		cqm cqm_llc cqm_occup_llc cqm_mbm_total cqm_mbm_local rdt_a split_lock_detect bus_lock_detect per_thread_mba
		vme de pse mce pae mtrr pge mca pat pse36 apic acpi tm tm2 pbe ds dts dtes64 monitor mwaitx ds_cpl vmx svm smx est xtpr pdcm pcid
		dca x2apic tsc_deadline_timer hypervisor smep smap invpcid umip nx pdpe1gb lm arat dtherm ida pln pts
		hwp hwp_notify hwp_act_window hwp_epp hwp_pkg_req hfi arch_capabilities flush_l1d md_clear spec_ctrl intel_stibp
		npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists pausefilter pfthreshold avic v_vmsave_vmload vgif
		v_spec_ctrl x2avic skinit wdt perfctr_core perfctr_nb perfctr_llc bpext ptsc topoext nodeid_msr osvw ibs extapic cr8_legacy
		cmp_legacy overflow_recov succor smca ecs`)
}
